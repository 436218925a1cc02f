"""From fake quantization to integers: weights become int8 tensors, roundings become QuantizeLinear/DequantizeLinear."""

import numpy as np
import onnx_ir as ir

from edgepress.core.errors import EdgepressError
from edgepress.export.nodes import (
    Array,
    add_before,
    constant,
    initializer,
    name_of,
    nodes_of,
    put_in_place,
    scale_of,
    stored,
)
from edgepress.export.simplify import simplify

DOMAIN = "edgepress"
FAKE = "FakeQuantize"


def lower(graph: ir.Graph) -> None:
    """Replace every `edgepress::FakeQuantize` of `graph`, in place, and simplify around the integers."""
    for node in nodes_of(graph, FAKE, DOMAIN):
        is_weight = node.inputs[0] is not None and constant(node.inputs[0]) is not None
        (_lower_weight if is_weight else _lower_activation)(graph, node)
    simplify(graph)
    _integer_biases(graph)
    _short_biases(graph)


def _lower_weight(graph: ir.Graph, node: ir.Node) -> None:
    weight, scale, _ = (stored(v) for v in node.inputs)
    axis, qmin, qmax = (node.attributes[name].as_int() for name in ("axis", "qmin", "qmax"))
    shape = [1] * weight.ndim
    shape[axis] = -1
    # In float32 and by multiplication, as torch.fake_quantize_per_channel_affine does: the same codes, ties included.
    inverse = (np.float32(1) / scale.astype(np.float32)).reshape(shape)
    codes = np.clip(np.rint(weight * inverse), qmin, qmax).astype(np.int8)
    readers = [use.node for use in node.outputs[0].uses()]
    if codes.ndim == 2 and readers and all(r.op_type == "Transpose" for r in readers):
        codes, axis = codes.T.copy(), 1 - axis  # MatMul wants (in, out); no runtime need transpose again at each call
        for reader in readers:
            ir.convenience.replace_all_uses_with(reader.outputs[0], node.outputs[0])
            graph.remove(reader, safe=True)
    inputs = [initializer(graph, f"{name_of(node.inputs[0])}.codes", codes)]
    inputs.append(initializer(graph, f"{name_of(node.inputs[0])}.scale", scale.astype(np.float32)))
    if codes.ndim == 2:  # ONNX Runtime 1.31 has no integer kernel for Gemm where the weight's zero point is left out
        inputs.append(initializer(graph, f"zeros_{scale.size}", np.zeros(scale.size, np.int8)))
    put_in_place(graph, node, add_before(graph, node, "DequantizeLinear", inputs, {"axis": axis}))


def _lower_activation(graph: ir.Graph, node: ir.Node) -> None:
    value, scale, zero_point = node.inputs[0], stored(node.inputs[1]), stored(node.inputs[2])
    qmin, qmax = node.attributes["qmin"].as_int(), node.attributes["qmax"].as_int()
    if qmin != 0 or (qmax != 255 and qmax not in FINER) or scale.size != 1:
        raise EdgepressError(f"activations with codes {qmin} to {qmax} cannot be exported; 2, 3, 4 or 8 bits can")
    step, code = scale.reshape(()), int(np.rint(zero_point.reshape(())))
    if qmax in FINER:
        value = _as_bytes(graph, node, value, step / FINER[qmax], code * FINER[qmax])
    put_in_place(graph, node, _round(graph, node, value, step, code))


FINER = {15: 17, 7: 35, 3: 85}
"""By the highest code of a width below 8: how many steps of the uint8 before it make one of its own.

No integer type of the runtime saturates at that code, so the value is rounded to uint8 first, over the same range.
Odd factors make the two roundings one: half-way between two coarse codes lies half-way between two fine ones.
"""


def _as_bytes(graph: ir.Graph, node: ir.Node, value: ir.Value | None, step: Array, code: int) -> ir.Value:
    """Return `value` rounded to uint8, through an operation that ONNX Runtime fuses with the next rounding to a table.

    That operation is a leaky ReLU of slope 1, which changes nothing.
    """
    source = value.producer() if value is not None else None
    if source is not None and source.op_type == "DequantizeLinear":
        value = _same(graph, node, value)
    return _same(graph, node, _round(graph, node, value, step, code).outputs[0])


def _same(graph: ir.Graph, node: ir.Node, value: ir.Value | None) -> ir.Value:
    same = ir.node("LeakyRelu", [value], {"alpha": 1.0})
    graph.insert_before(node, same)
    return same.outputs[0]


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value | None, step: Array, code: int) -> ir.Node:
    """Insert QuantizeLinear and DequantizeLinear before `node` and return the latter."""
    scale = scale_of(graph, step)
    # Written out even where it is 0, the default: without it ONNX Runtime 1.31 overlooks some integer kernels.
    offset = initializer(graph, f"zero_{code}", np.array(code, np.uint8))
    quantized = add_before(graph, node, "QuantizeLinear", [value, scale, offset])
    return add_before(graph, node, "DequantizeLinear", [quantized.outputs[0], scale, offset])


def _integer_biases(graph: ir.Graph) -> None:
    """Store the biases of linear layers as int32 in units of input scale times weight scale.

    ONNX Runtime needs it to use its integer kernel for `Gemm`. For `Conv` it makes this step itself while loading, and
    a float bias is the smaller file.
    """
    for node in nodes_of(graph, "Gemm"):
        if len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        bias, scale = constant(node.inputs[2]), _bias_unit(node)
        if bias is None or scale is None:
            continue
        codes = np.rint(bias.astype(np.float64) / scale).astype(np.int32)
        integers = initializer(graph, f"{name_of(node.inputs[2])}.codes", codes)
        scales = initializer(graph, f"{name_of(node.inputs[2])}.scale", np.broadcast_to(scale, codes.shape).copy())
        dequantize = add_before(graph, node, "DequantizeLinear", [integers, scales], {"axis": 0})
        node.replace_input_with(2, dequantize.outputs[0])


def _short_biases(graph: ir.Graph) -> None:
    """Keep of the float biases of convolutions only the leading bits: a packed file stores the others' zeros for free.

    The integer that runtimes make of a bias, in units of input scale times weight scale, stays the same.
    """
    for node in nodes_of(graph, "Conv"):
        unit = _bias_unit(node)
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if unit is not None and bias is not None and bias.dtype == np.float32:
            short = initializer(graph, f"{name_of(node.inputs[2])}.short", shorten(bias, unit))
            node.replace_input_with(2, short)


def shorten(values: Array, unit: Array) -> Array:
    """Return float32 `values` with as few leading bits as leave each within a quarter `unit` of its multiple of it."""
    multiples = np.rint(values.astype(np.float64) / unit)
    bits, result = values.view(np.uint32), values.copy()
    for dropped in range(1, 24):
        half, mask = np.uint32(1 << (dropped - 1)), np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
        shorter = ((bits + half) & mask).view(np.float32)
        result = np.where(np.abs(shorter / unit - multiples) < 0.25, shorter, result)
    return np.where(multiples == 0, np.float32(0), result)


def _bias_unit(node: ir.Node) -> Array | None:
    """Return input scale times weight scale in float32, as runtimes do; None where the operation is not an integer one.

    The result is of one element or one per channel.
    """
    unit = np.ones(1, np.float32)
    for value in node.inputs[:2]:
        source = value.producer() if value is not None else None
        if source is None or source.op_type != "DequantizeLinear":
            return None
        unit = unit * stored(source.inputs[1]).astype(np.float32)
    return unit
