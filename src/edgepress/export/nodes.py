"""Small tools to change an ONNX graph in place."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgepress.core.errors import EdgepressError

Array = NDArray[Any]


def nodes_of(graph: ir.Graph, op_type: str, domain: str = "") -> list[ir.Node]:
    """Return the nodes of one operation, in order, safe to change the graph under."""
    return [node for node in graph if node.op_type == op_type and node.domain == domain]


def add_before(
    graph: ir.Graph,
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, int] | None = None,
) -> ir.Node:
    """Insert a new node before another and return it."""
    node = ir.node(op_type, inputs, attributes or {})
    graph.insert_before(before, node)
    return node


def put_in_place(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Put the only output of `new` in the place of that of `old`, graph outputs included, and remove `old`."""
    before, after = old.outputs[0], new.outputs[0]
    after.shape, after.type = before.shape, before.type
    if before.is_graph_output():
        after.name, before.name = before.name, None
    ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    graph.remove(old, safe=True)


def initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Return the initializer `name`, adding it where it is new; equal names mean equal content."""
    if name not in graph.initializers:
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype  # type: ignore[union-attr]
        graph.register_initializer(value)
    return graph.initializers[name]


def scale_of(graph: ir.Graph, value: Array) -> ir.Value:
    """Return the one initializer for this scale, so that equal scales are the same value of the graph."""
    step = value.astype(np.float32)
    return initializer(graph, f"scale_{float(step)!r}", step)


def constant(value: ir.Value) -> Array | None:
    """Return the content of a value that is stored in the file; None for a computed one."""
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def stored(value: ir.Value | None) -> Array:
    """Return the content of a value that must be stored; raise `EdgepressError` otherwise."""
    array = constant(value) if value is not None else None
    if array is None:
        raise EdgepressError("a quantizer's scale or zero point is computed in the network, not stored: no ONNX for it")
    return array


def zero_point_of(quantize: ir.Node) -> int:
    """Return the code that stands for zero in a QuantizeLinear."""
    return int(stored(quantize.inputs[2]))


def only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the node of this operation that alone reads `value`, else None."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None


def rank(value: ir.Value | None) -> int:
    """Return the number of dimensions, -1 where unknown."""
    return len(value.shape) if value is not None and value.shape is not None else -1


def name_of(value: ir.Value | None) -> str:
    """Return the name of a value."""
    return (value.name if value is not None else None) or "weight"
