"""ONNX with weights stored in FP16: half the bytes, computed in FP32 as before.

ONNX Runtime turns the weights into FP32 while it loads the file, so that a call costs what it costs with FP32 weights
(ResNet-8 and ResNet-20 on one thread, FP32 and FP16: 0.234 and 0.233 ms, 0.884 and 0.876 ms; loading takes 0.6 and 0.9
ms more). BF16 would take the same bytes and keep 8 significant bits instead of 11: an error of the outputs 16 and 12
times as large, for nothing.
"""

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import EdgepressError
from edgepress.export.formats import formats
from edgepress.export.nodes import constant, initializer, name_of
from edgepress.export.onnx import FILE, provenance, to_onnx
from edgepress.export.parity import Bounds, check

SMALLEST = 64
"""Elements from which a tensor is worth the bytes of its Cast."""

LARGEST = 65_504.0
"""The largest number of FP16."""

HALF = Bounds(max_difference=1e-2, rms_difference=5e-3, agreement=99.5)
"""Rounding a weight to FP16 changes it by at most 1/2048, and the errors of many weights cancel rather than add up: on
ResNet-8 and ResNet-20 they were 6e-4 rms and 7e-4 at most, all decisions equal."""


@formats.register("onnx-fp16")
def export_half(model: Model, samples: NDArray[np.uint8]) -> Program:
    """Return `model` as a program for ONNX Runtime whose weights are stored in FP16, proven on `samples`.

    `samples` are real images, uint8 `(N, height, width, channels)`. Raises `EdgepressError` where the network is
    quantized, or has weights that FP16 cannot hold, and `ParityError` where rounding changed what it computes.
    """
    if model.precision != "fp32":
        raise EdgepressError(
            f"onnx-fp16 stores an fp32 network in half its bytes; this one is {model.precision}: export it `to: onnx`"
        )
    about = provenance(model)
    about["format"] = {**about["format"], "name": "onnx-fp16"}
    file = store_half(to_onnx(model))
    return check(model, Program(model.signature, "onnxruntime", "w16a32", {FILE: file}, about), samples, HALF)


def store_half(data: bytes) -> bytes:
    """Return the FP32 ONNX file `data` with its weights in FP16. Raises `EdgepressError` for weights beyond 65,504."""
    model = ir.from_proto(onnx.ModelProto.FromString(data))
    graph = model.graph
    for value in list(graph.initializers.values()):
        weights = constant(value)
        if weights is None or weights.dtype != np.float32 or weights.size < SMALLEST:
            continue
        largest = float(np.abs(weights).max())
        if not largest <= LARGEST:
            raise EdgepressError(
                f"a weight of {largest:.4g} cannot be stored in FP16, whose largest number is 65,504: "
                "export it `to: onnx`"
            )
        name = name_of(value)
        half = initializer(graph, f"{name}_", weights.astype(np.float16))
        cast = ir.node("Cast", [half], {"to": int(ir.DataType.FLOAT)})
        graph.insert_before(graph[0], cast)
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        graph.initializers.pop(name)
        cast.outputs[0].name = name
    return ir.to_proto(model).SerializeToString()
