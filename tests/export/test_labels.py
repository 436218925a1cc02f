"""Labels change names only: the file computes the same, and profilers speak of layers."""

import numpy as np
import onnx
import onnxruntime
import pytest

from edgepress.core.artifact import Program
from edgepress.export.labels import labelled, layer_of, layers_of
from edgepress.export.onnx import to_onnx
from edgepress.measure.profile import layer_files, profile
from edgepress.runtime.preprocess import to_input
from quantize.nets import images, make, quantized


@pytest.mark.parametrize("kind", ["fp32", "w8a8"])
@pytest.mark.parametrize("name", ["Residual", "SqueezeExcite"])
def test_a_labelled_file_computes_the_same(name: str, kind: str) -> None:
    model = make(name) if kind == "fp32" else quantized(name)
    data = to_onnx(model)
    inputs = to_input(images(3), model.signature.input)
    outputs = [
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"input": inputs})[0]
        for file in (data, labelled(data))
    ]
    assert np.array_equal(outputs[0], outputs[1])
    found = onnx.load_from_string(labelled(data)).graph.node
    assert len({node.name for node in found}) == len(found)
    weighted = [layer_of(node.name) for node in found if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert weighted == list(range(len(layers_of(data))))


def test_a_label_is_no_name_that_the_file_has() -> None:
    model = onnx.load_from_string(to_onnx(quantized("Residual")))
    first = model.graph.initializer[0].name  # a large file has values of all short names
    for node in model.graph.node:
        node.input[:] = ["n0" if name == first else name for name in node.input]
    model.graph.initializer[0].name = "n0"
    data = labelled(model.SerializeToString())
    onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = onnx.load_from_string(data).graph
    assert not {node.output[0] for node in found.node} & {value.name for value in found.initializer}


@pytest.mark.parametrize("kind", ["fp32", "w8a8"])
def test_the_profiler_names_every_layer(kind: str) -> None:
    model = make("Residual") if kind == "fp32" else quantized("Residual")
    program = Program(model.signature, "onnxruntime", model.precision, {"model.onnx": to_onnx(model)})
    found = profile(program, 1, to_input(images(1), model.signature.input))
    files = layer_files(program)
    assert {one["layer"] for one in found if one["layer"] is not None} == set(range(len(files)))
    assert sum(one["share"] for one in found) == pytest.approx(100)
    assert all(file["bytes"] >= np.prod(file["shape"]) for file in files)
    weights = [parameter for name, parameter in model.module.named_parameters() if parameter.ndim > 1]
    if kind == "fp32":
        assert [sorted(file["shape"]) for file in files] == [sorted(weight.shape) for weight in weights]


def test_labels_are_read_back() -> None:
    assert [layer_of(name) for name in ("L3", "L12.n40_nchwc", "L0_token_2", "n7", "output", "Layer")] == [
        3, 12, 0, None, None, None,
    ]  # fmt: skip
