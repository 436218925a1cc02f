"""Tiny programs made by hand, so that the runtime is tested without the export."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepress.core.artifact import Program, Signature
from edgepress.core.inputs import InputSpec

LABELS = ("red", "green", "blue")


def onnx_file(
    nodes: list[Any],
    tensors: list[TensorProto],
    spec: InputSpec,
    result: list[Any],
    batch: int | str = "n",
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """Return an ONNX file with the input `x` and the output `y` of shape `(batch, *result)`."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", kind, [batch, *spec.shape])],
        [helper.make_tensor_value_info("y", kind, [batch, *result])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def classifier(
    spec: InputSpec, scale: float = 4.0, batch: int | str = "n", kind: int = TensorProto.FLOAT, labels: Any = LABELS
) -> Program:
    """Return a program whose logits are `scale` times the mean of each channel: it names the strongest color."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["m", "s"], ["y"]),
    ]
    factor = numpy_helper.from_array(np.array(scale, onnx.helper.tensor_dtype_to_np_dtype(kind)), "s")
    data = onnx_file(nodes, [factor], spec, [spec.channels], batch, kind)
    signature = Signature("classification", spec, labels)
    return Program(signature, "onnxruntime", "fp32", {"model.onnx": data}, {"from": "hand"}, {"max_abs": 0.0}, "00ff")


def segmenter(spec: InputSpec) -> Program:
    """Return a program that gives each pixel the class of its strongest channel."""
    data = onnx_file([helper.make_node("Identity", ["x"], ["y"])], [], spec, [3, spec.height, spec.width])
    return Program(Signature("segmentation", spec, LABELS), "onnxruntime", "fp32", {"model.onnx": data})


def flat(color: int, height: int, width: int) -> np.ndarray:
    """Return an image in which only channel `color` is lit."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., color] = 200
    return image
