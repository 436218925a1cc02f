"""From fake quantization to integers: weights become int8 tensors, roundings become QuantizeLinear/DequantizeLinear."""

import numpy as np
import onnx_ir as ir

from edgepress.core.errors import EdgepressError
from edgepress.export.nodes import (
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
    if (qmin, qmax) != (0, 255) or scale.size != 1:
        raise EdgepressError(f"activations with codes {qmin} to {qmax} cannot be exported; uint8 with one scale can")
    step = scale_of(graph, scale.reshape(()))
    code = int(np.rint(zero_point.reshape(())))
    # Written out even where it is 0, the default: without it ONNX Runtime 1.31 overlooks some integer kernels.
    offset = initializer(graph, f"zero_{code}", np.array(code, np.uint8))
    quantized = add_before(graph, node, "QuantizeLinear", [value, step, offset])
    put_in_place(graph, node, add_before(graph, node, "DequantizeLinear", [quantized.outputs[0], step, offset]))


def _integer_biases(graph: ir.Graph) -> None:
    """Store the biases of linear layers as int32 in units of input scale times weight scale.

    ONNX Runtime needs it to use its integer kernel for `Gemm`. For `Conv` it makes this step itself while loading, and
    a float bias is the smaller file.
    """
    for node in nodes_of(graph, "Gemm"):
        if len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        bias = constant(node.inputs[2])
        sources = [v.producer() if v is not None else None for v in node.inputs[:2]]
        if bias is None or any(s is None or s.op_type != "DequantizeLinear" for s in sources):
            continue
        scale = np.float32(1)
        for source in sources:
            assert source is not None
            scale = scale * stored(source.inputs[1]).astype(np.float32)
        codes = np.rint(bias.astype(np.float64) / scale).astype(np.int32)
        integers = initializer(graph, f"{name_of(node.inputs[2])}.codes", codes)
        scales = initializer(graph, f"{name_of(node.inputs[2])}.scale", np.broadcast_to(scale, codes.shape).copy())
        dequantize = add_before(graph, node, "DequantizeLinear", [integers, scales], {"axis": 0})
        node.replace_input_with(2, dequantize.outputs[0])
