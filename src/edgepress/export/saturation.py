"""The integer sums of x86 processors without VNNI, exactly as they come out, and which weights they go wrong for.

There, ONNX Runtime's kernels for unsigned activations and signed weights multiply with `vpmaddubsw`: the products of
two neighbors are added in a signed 16-bit number that saturates at -32,768 and 32,767, and only these sums are added in
32 bits. Neighbors are the elements 2j and 2j+1 of a row of the matrix product; for a convolution such a row runs over
kernel height, kernel width and, fastest, the input channels of the group. Convolutions with one channel in and out per
group have a kernel of their own, which is exact.

Compared with ONNX Runtime 1.31.1 on an emulated Haswell (QEMU 7.2), for convolutions of even and odd channel numbers,
grouped, 1x1 and 3x3, and for matrix products: every output was the same. There, of the first 1,000 CIFAR-10 test images
the zoo's ResNet-8 named 84.5 % rightly, and 87.6 % with exact kernels, as with VNNI.
"""

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgepress.export.nodes import constant, nodes_of
from edgepress.runtime.hardware import ANY, NOT_SATURATING

HIGHEST_ACTIVATION = 255
LOWEST, HIGHEST = -32_768, 32_767


def exact_on(data: bytes) -> list[str]:
    """Return on which integer arithmetic the sums of the ONNX file `data`, a QDQ network, are exact, from its weights.

    `["any"]` where no pair of neighbors can saturate, whatever the activations are.
    """
    graph = ir.from_proto(onnx.ModelProto.FromString(data)).graph
    return list(NOT_SATURATING) if any(pairs_at_risk(rows) for rows in weight_rows(graph)) else [ANY]


def weight_rows(graph: ir.Graph) -> list[NDArray[np.int8]]:
    """Return the int8 weights of each convolution and matrix product that is computed in pairs, `(outputs, K)`.

    Depthwise convolutions are not among them, nor are products of two activations: those are exact everywhere.
    """
    found: list[NDArray[np.int8]] = []
    for kind in ("Conv", "MatMul", "Gemm"):
        for node in nodes_of(graph, kind):
            codes = _codes(node.inputs[1])
            if codes is None:
                continue
            if kind == "Conv":
                group = node.attributes["group"].as_int() if "group" in node.attributes else 1
                if codes.shape[1] == 1 and codes.shape[0] == group:
                    continue
                found.append(conv_rows(codes))
            else:
                transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
                found.append(np.ascontiguousarray(codes if transposed else np.moveaxis(codes, -2, -1)))
    return found


def conv_rows(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the weights `(outputs, channels, *kernel)` of a convolution as the rows of its matrix product,
    `(outputs, K)`, channels fastest."""
    return np.moveaxis(weight, 1, -1).reshape(len(weight), -1)


def pairs_at_risk(rows: NDArray[np.int8]) -> int:
    """Return how many pairs of neighbors in `rows` `(..., K)` activations from 0 to 255 can drive out of 16 bits.

    A pair of opposite signs never can. One of the same sign can where the two are above 128 together.
    """
    pairs = _in_pairs(rows.astype(np.int32))
    highest = HIGHEST_ACTIVATION * np.maximum(pairs, 0).sum(-1)
    lowest = HIGHEST_ACTIVATION * np.minimum(pairs, 0).sum(-1)
    return int(np.count_nonzero((highest > HIGHEST) | (lowest < LOWEST)))


def _codes(value: ir.Value | None) -> NDArray[np.int8] | None:
    source = value.producer() if value is not None else None
    if source is None or source.op_type != "DequantizeLinear" or source.inputs[0] is None:
        return None
    codes = constant(source.inputs[0])
    return None if codes is None or codes.ndim < 2 else codes.astype(np.int8)


def _in_pairs(values: NDArray[np.int32]) -> NDArray[np.int32]:
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros((*values.shape[:-1], 1), np.int32)], -1)
    return values.reshape(*values.shape[:-1], -1, 2)
