"""A small file around the weights: no names a person would read, no shapes a runtime infers, hardly a thing twice."""

import string

import onnx_ir as ir
from onnx_ir.passes import common as passes

DIGITS = string.ascii_lowercase + string.digits


def slim(model: ir.Model) -> None:
    """Shrink `model` in place. Its inputs and outputs keep their names; what it computes stays the same."""
    ir.passes.Sequential(
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.DeduplicateInitializersPass(),
        passes.RemoveUnusedOpsetsPass(),
    )(model)
    graph = model.graph
    _own_codes(graph)
    kept = {id(value) for value in (*graph.inputs, *graph.outputs)}
    _rename(graph, kept)
    for value in _values(graph):
        value.metadata_props.clear()
        value.doc_string = None
        if id(value) not in kept:
            value.shape, value.type = None, None  # otherwise written out as value_info
    for node in graph:
        node.name, node.doc_string = "", None
        node.metadata_props.clear()
        _drop_defaults(node)
    graph.name, graph.doc_string = "g", None
    graph.metadata_props.clear()
    model.metadata_props.clear()
    model.doc_string = model.domain = model.graph.doc_string = None
    model.producer_name, model.producer_version = "edgepress", None


def _own_codes(graph: ir.Graph) -> None:
    """Give every layer int8 codes of its own where two have the same (all 127, in what were batch norms).

    ONNX Runtime 1.31 does not load a file that shares them where it makes signed weights unsigned, which our engine
    asks of it on processors without VNNI: "Attempt to replace the existing tensor".
    """
    seen: set[int] = set()
    for node in list(graph):
        codes = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        if codes is None or codes.const_value is None or codes.const_value.dtype != ir.DataType.INT8:
            continue
        if id(codes) in seen:
            node.replace_input_with(0, _copied(graph, codes, len(seen)))
        seen.add(id(node.inputs[0]))
        for use in list(node.outputs[0].uses())[1:]:
            copied = _copied(graph, codes, len(seen))
            seen.add(id(copied))
            own = ir.node("DequantizeLinear", [copied, *node.inputs[1:]], dict(node.attributes))
            graph.insert_before(use.node, own)
            use.node.replace_input_with(use.idx, own.outputs[0])


def _copied(graph: ir.Graph, codes: ir.Value, number: int) -> ir.Value:
    assert codes.const_value is not None
    name = f"{codes.name}.{number}"
    own = ir.Value(name=name, const_value=ir.tensor(codes.const_value.numpy(), name=name))
    graph.register_initializer(own)
    return own


def _rename(graph: ir.Graph, kept: set[int]) -> None:
    counter = 0
    for value in _values(graph):
        if id(value) in kept:
            continue
        name = _short(counter)
        counter += 1
        if value.const_value is not None and value.is_initializer():
            value.const_value.name = name
            value.const_value.doc_string = None
            graph.initializers.pop(str(value.name))
            value.name = name
            graph.initializers[name] = value
        else:
            value.name = name


def _values(graph: ir.Graph) -> list[ir.Value]:
    made = [output for node in graph for output in node.outputs]
    return [*graph.inputs, *list(graph.initializers.values()), *made]


def _short(number: int) -> str:
    """Return the `number`-th of a, b, ... 9, aa, ab ... over letters and digits, starting with a letter."""
    first, rest = string.ascii_lowercase, DIGITS
    name, number = first[number % len(first)], number // len(first)
    while number:
        number -= 1
        name, number = name + rest[number % len(rest)], number // len(rest)
    return name


DEFAULTS: dict[str, object] = {
    "auto_pad": "NOTSET",
    "group": 1,
    "alpha": 1.0,
    "beta": 1.0,
    "transA": 0,
    "transB": 0,
    "ceil_mode": 0,
    "storage_order": 0,
    "keepdims": 1,
    "noop_with_empty_axes": 0,
    "count_include_pad": 0,
}
WITH_DEFAULTS = {"Conv", "ConvTranspose", "Gemm", "MaxPool", "AveragePool", "ReduceMean"}
ONES = {"strides", "dilations"}


def _drop_defaults(node: ir.Node) -> None:
    """Remove attributes that say what their absence says."""
    if node.op_type not in WITH_DEFAULTS:
        return
    for name, attribute in list(node.attributes.items()):
        value = attribute.value
        plain = name in DEFAULTS and value == DEFAULTS[name]
        ones = name in ONES and all(v == 1 for v in value)
        zeros = name in ("pads", "output_padding") and all(v == 0 for v in value)
        inferred = name == "kernel_shape" and node.op_type in ("Conv", "ConvTranspose")
        if plain or ones or zeros or inferred:
            del node.attributes[name]
