"""A quantized network computed with integers is what integer engines compute, to the bit where they have kernels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.inputs import InputSpec
from edgepress.export import integers
from edgepress.export.integers import Codes, predictor
from edgepress.export.onnx import export_onnx
from edgepress.export.simplify import simplify
from edgepress.models.build import new_model
from edgepress.models.predictor import TorchPredictor
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.runtime.predictor import EnginePredictor
from prune.helpers import enliven
from quantize.nets import NETS, images, make, quantized

EXACT = ("Flat", "Residual", "PreActivation", "Shuffle", "Padded", "Concat")
"""Nets of which ONNX Runtime computes everything with integers; the others have a sigmoid, a product, a GELU."""


@pytest.mark.parametrize("name", NETS)
def test_onnx_runtime_computes_the_same_integers(name: str) -> None:
    model, seen = quantized(name), images(64)
    expected = predictor(model)(seen)
    got = EnginePredictor(export_onnx(model, images(24)))(seen)
    if name in EXACT:
        np.testing.assert_array_equal(np.argmax(got, 1), np.argmax(expected, 1))
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    else:
        assert np.sqrt(((got - expected) ** 2).mean()) < 5e-3 * expected.std()


def deep() -> Model:
    """A network of twenty layers one behind the other, whose roundings spread."""
    labels = tuple("abcdefghij")
    model = new_model("cifar_resnet20", Signature("classification", InputSpec(16, 16), labels), {}, seed=0)
    enliven(model.module)
    return model


@pytest.mark.parametrize("weights", [8, 4])
def test_a_deep_network_agrees_to_the_bit_where_roundings_in_floating_point_do_not(weights: int) -> None:
    model, seen = quantize(deep(), images(24, 16), QuantizeConfig(weights=weights)), images(64, 16)
    got = EnginePredictor(export_onnx(model, images(24, 16)))(seen)
    exact, fake = predictor(model)(seen), TorchPredictor(model)(seen)
    off = [float(np.abs(got - one).max() / np.abs(got).max()) for one in (exact, fake)]
    assert off[0] < 1e-5, off
    assert off[1] < 0.1, "both are roundings of the same network"


@pytest.mark.parametrize("ratios", [(0.7, 0.7), (0.5, 0.5), (0.3, 0.8), (0.7117, 0.6637), (1.1, 0.9)])
@pytest.mark.parametrize(("zeros", "floor"), [((0, 0, 0), True), ((123, 131, 0), True), ((123, 131, 122), False)])
@pytest.mark.parametrize(("operation", "kind"), [("Add", integers._add), ("Mul", integers._multiply)])
def test_all_pairs_of_codes_become_what_onnx_runtime_makes_of_them(
    operation: str, kind: Callable[..., Any], ratios: tuple[float, float], zeros: tuple[int, int, int], floor: bool
) -> None:
    scales = np.float32([0.1 * ratios[0], 0.1 * ratios[1], 0.1 if operation == "Add" else 0.5])
    pairs = np.stack(np.meshgrid(np.arange(256), np.arange(256))).reshape(2, -1).astype(np.uint8)
    tensors = [helper.make_tensor(f"s{k}", TensorProto.FLOAT, [], [scale]) for k, scale in enumerate(scales)]
    tensors += [helper.make_tensor(f"z{k}", TensorProto.UINT8, [], [zero]) for k, zero in enumerate(zeros)]
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "s0", "z0"], ["x"]),
        helper.make_node("DequantizeLinear", ["b", "s1", "z1"], ["y"]),
        helper.make_node(operation, ["x", "y"], ["sum"]),
        *([helper.make_node("Relu", ["sum"], ["shown"])] if floor else []),
        helper.make_node("QuantizeLinear", ["shown" if floor else "sum", "s2", "z2"], ["c"]),
    ]
    infos = {name: helper.make_tensor_value_info(name, TensorProto.UINT8, [pairs.shape[1]]) for name in "abc"}
    graph = helper.make_graph(nodes, "add", [infos["a"], infos["b"]], [infos["c"]], tensors)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    [got] = session.run(None, {"a": pairs[0], "b": pairs[1]})
    terms = [
        Codes(torch.from_numpy(pairs[k]).float() - zeros[k], torch.tensor(scales[k]), float(zeros[k])) for k in (0, 1)
    ]
    steps = replace(kind(*terms), floor=floor).steps(torch.tensor(scales[2]), float(zeros[2]))
    expected = (steps + zeros[2]).clamp(0, 255).numpy()
    assert (got != expected).sum() == 0


@pytest.mark.parametrize(
    ("scale", "zero"), [(0.0531243, 127), (0.1432107, 122), (0.2581583, 129), (0.018301036, 153), (0.05317, 0)]
)
def test_gates_are_rounded_as_pytorch_rounds_them(scale: float, zero: int) -> None:
    tensors = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [scale]), helper.make_tensor("z", TensorProto.UINT8, [], [zero]),
        helper.make_tensor("t", TensorProto.FLOAT, [], [np.float32(1 / 255)]),
        helper.make_tensor("o", TensorProto.UINT8, [], [0]),
    ]  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["x"]),
        helper.make_node("HardSigmoid", ["x"], ["y"], alpha=1 / 6, beta=0.5),
        helper.make_node("QuantizeLinear", ["y", "t", "o"], ["c"]),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.UINT8, [256]) for name in "ac"]
    graph = helper.make_graph(nodes, "gate", infos[:1], infos[1:], tensors)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    simplify(model.graph)
    assert any(node.op_type == "Add" for node in model.graph)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    [got] = session.run(None, {"a": np.arange(256, dtype=np.uint8)})
    values = (torch.arange(256) - zero) * torch.tensor(scale)
    expected = (torch.nn.functional.hardsigmoid(values) / torch.tensor(1 / 255)).round().numpy()
    assert (got != expected).sum() == 0


def test_sums_that_float32_does_not_hold_are_exact() -> None:
    wide = Model(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4)), Builder("quantize.nets:Wide"),
        Signature("classification", InputSpec(64, 64), ("a", "b", "c", "d")),
    )  # fmt: skip
    with torch.no_grad():
        wide.module[1].weight.fill_(0.01)
    model, seen = quantize(wide, images(8, 64)), np.full((2, 64, 64, 3), 254, np.uint8)
    run = integers.Integers(model.module)
    assert float(predictor(model)(seen)[0, 0]) == pytest.approx(float(TorchPredictor(model)(seen)[0, 0]), rel=1e-4)
    codes = Codes(torch.full((1, 12288), 255.0), torch.tensor(1.0))
    weight = Codes(torch.full((1, 12288), 127.0), torch.ones(1, 1))
    total = integers._product(torch.nn.functional.linear, codes, weight, None).whole  # type: ignore[union-attr]
    assert total.dtype == torch.float64 and int(total) == 12288 * 255 * 127
    assert run.module is model.module


def test_a_network_without_integers_is_left_to_pytorch(tmp_path: Path) -> None:
    model = make("Residual")
    np.testing.assert_array_equal(predictor(model)(images()), TorchPredictor(model)(images()))
