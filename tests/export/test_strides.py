"""A pooling over one pixel is a slice with a step, to the bit, in a traced network and in an ONNX file."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgepress.export.decomposed import portable
from edgepress.export.formats import formats
from edgepress.export.onnx import to_onnx
from edgepress.export.strides import pool_for_onnx_slices, pool_for_slices
from edgepress.models.build import new_model
from edgepress.models.predictor import TorchPredictor
from edgepress.runtime.engine import engines
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import to_input
from quantize.nets import images, make


class Sliced(nn.Module):
    """Slices that are, and that are not, every n-th row or column."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x[:, 1:]
        return kept[:, :, ::2, ::3] + x[:, :2, 1::2, ::3][:, :, :4] * 2


def test_a_traced_network_computes_the_same() -> None:
    x = torch.randn(2, 3, 8, 9)
    module = torch.export.export(Sliced(), (x,)).module()
    before = [str(node.target) for node in module.graph.nodes].count("aten.slice.Tensor")
    expected = module(x)
    pooled = pool_for_slices(module)
    targets = [str(node.target) for node in module.graph.nodes]
    assert torch.equal(pooled(x), expected)
    assert targets.count("aten.slice.Tensor") < before and targets.count("aten.max_pool2d.default") == 3


def test_an_onnx_file_computes_the_same() -> None:
    torch.manual_seed(0)
    signature = make("Residual").signature
    model = new_model("cifar_resnet20", signature, {}, seed=0)
    data = to_onnx(model)
    pooled = pool_for_onnx_slices(data)
    kinds = [node.op_type for node in onnx.load_from_string(pooled).graph.node]
    assert "Slice" in [node.op_type for node in onnx.load_from_string(data).graph.node] and "Slice" not in kinds
    inputs = to_input(images(3), signature.input)
    outputs = [
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"input": inputs})[0]
        for file in (data, pooled)
    ]
    assert np.array_equal(outputs[0], outputs[1])
    expected = TorchPredictor(model)(images(3))
    with torch.no_grad():
        found = pool_for_slices(portable(model))(torch.from_numpy(inputs)).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the converters' own, while they are imported
@pytest.mark.parametrize("name", ["litert", "executorch", "ncnn"])
def test_converters_write_it_right(name: str) -> None:
    if engines.get(name).available():
        pytest.skip(str(engines.get(name).available()))
    model = new_model("cifar_resnet20", make("Residual").signature, {}, seed=0)
    program = formats.get(name)(model, images(24))
    expected, found = TorchPredictor(model)(images(40)), EnginePredictor(program)(images(40))
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
