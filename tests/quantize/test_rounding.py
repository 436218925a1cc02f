"""Learned codes lie on the grid, and keep what a layer computes better than the nearest ones."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.inputs import InputSpec
from edgepress.export.graph import trace
from edgepress.models.predictor import TorchPredictor
from edgepress.quantize import codes as codes_module
from edgepress.quantize import rounding
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.place import insert, place
from edgepress.quantize.ptq import calibrate, quantize, sample
from edgepress.quantize.rounding import Reconstruction, learn_rounding
from edgepress.quantize.weighted import layers_of, unfold
from quantize.nets import images, make


def error(model: Model, config: QuantizeConfig) -> float:
    seen, fresh = images(48)[:32], images(48)[32:]
    expected, got = TorchPredictor(model)(fresh), TorchPredictor(quantize(model, seen, config))(fresh)
    return float(np.square(expected - got).mean() / np.square(expected).mean())


def test_outputs_are_kept_better_than_by_nearest_codes() -> None:
    pairs = [
        [error(make(name), QuantizeConfig(weights=3, rounding=r)) for r in ("nearest", "learned")]  # type: ignore[arg-type]
        for name in ("Residual", "SqueezeExcite", "Silu")
    ]
    nearest, learned = np.log(pairs).mean(0)
    assert learned < nearest - 0.3  # a quarter less, on average and on images not seen


@pytest.mark.parametrize("name", ["SqueezeExcite", "PreActivation", "Shuffle"])
def test_learned_weights_are_codes_times_scale(name: str) -> None:
    module = quantize(make(name), images(16), QuantizeConfig(weights=3, first_last=3, rounding="learned")).module
    layers = layers_of(module)  # type: ignore[arg-type]
    assert len(layers) >= 3
    for layer in layers:
        weight = layer.weight.detach()
        codes = weight / layer.quantizer.scale.view(-1, *[1] * (weight.dim() - 1))
        assert (codes - codes.round()).abs().max() < 1e-4 and codes.abs().max() < 3.5
        torch.testing.assert_close(layer.quantizer(weight), weight, rtol=1e-6, atol=0)


class Odd(nn.Module):
    """A 1-d convolution, padding by name, a dead channel, and one weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding="same", dilation=2), nn.Conv2d(4, 4, (3, 1), stride=2)
        self.line, self.head = nn.Conv1d(4, 6, 3, padding=1), nn.Linear(6, 4)
        with torch.no_grad():
            self.a.weight[1], self.a.bias[1] = 0, 0  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.b(torch.relu(self.a(x))))
        x = torch.relu(nn.functional.conv2d(x, self.b.weight, padding=(1, 0)))
        return self.head(self.line(x.flatten(2)).transpose(1, 2).mean(1))


def test_every_kind_of_layer_is_unfolded_as_it_computes() -> None:
    torch.manual_seed(0)
    spec = InputSpec(8, 8, 3, (0.5,) * 3, (0.2,) * 3)
    signature = Signature("classification", spec, tuple("abcd"))
    model = Model(Odd(), Builder("x"), signature)
    graph = trace(model.module, signature)
    placement = place(graph, 4)
    quantizers = insert(graph, placement.sites)
    calibrate(graph, placement, quantizers, images(8), signature)
    inputs = sample(images(8), signature)
    layers = layers_of(graph)
    assert len(layers) == 5
    for layer in layers[:4]:
        shape = layer.weight.shape
        size = {4: (9, 9), 3: (9,), 2: ()}[len(shape)]
        x = torch.randn(2, shape[1] * layer.groups, *size)
        if layer.node.target is torch.ops.aten.linear.default:
            continue
        run: Any = layer.node.target
        expected = run(x, layer.weight, None, *layer.node.args[3:])
        columns = unfold(layer, x)
        got = (layer.weight.reshape(shape[0], -1) @ columns).reshape(expected.shape)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    told: list[Reconstruction] = []
    learn_rounding(graph, inputs, told=told.append)
    assert [r.layer for r in told] == ["a", "b", "line", "head"], "a shared weight is rounded once"
    assert all(0 <= r.learned <= r.nearest * 1.0001 for r in told)
    assert graph(inputs).isfinite().all()


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[Tensor] = []
    for block in (1000, 7):
        monkeypatch.setattr(codes_module, "BLOCK", block)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, 200, 30, generator=generator).cumsum(2)
        hessian, target = x.mT @ x / 200 + torch.eye(30), torch.randn(1, 5, 30, generator=generator)
        scale = target.abs().amax(2, keepdim=True) / 3
        nearest = (target / scale).round()
        codes, step = codes_module.best_codes(target, nearest, hessian, scale, -3, 3)
        results.append(codes * step)
        errors = [codes_module.squared_error(c * s - target, hessian) for c, s in ((codes, step), (nearest, scale))]
        assert (errors[0] <= errors[1]).all() and errors[0].sum() < 0.8 * errors[1].sum()
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_a_wide_layer_is_rounded_in_slices(monkeypatch: pytest.MonkeyPatch, granularity: Any) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.ReLU(), nn.Linear(24, 4))
    signature = Signature("classification", InputSpec(8, 8, 3, (0.5,) * 3, (0.2,) * 3), tuple("abcd"))
    errors: dict[int, list[Reconstruction]] = {}
    for widest in (1000, 100):
        monkeypatch.setattr(rounding, "WIDEST", widest)
        monkeypatch.setattr(rounding, "SLICE", 80)  # 80, 80 and 32 inputs
        told = errors[widest] = []
        monkeypatch.setattr(rounding, "Reconstruction", lambda *given, told=told: told.append(given) or given)
        torch.manual_seed(0)
        model = Model(net, Builder("x"), signature)
        config = QuantizeConfig(weights=3, first_last=3, rounding="learned", granularity=granularity)
        module = quantize(model, images(256), config).module
        for layer in layers_of(module):  # type: ignore[arg-type]
            torch.testing.assert_close(layer.quantizer(layer.weight), layer.weight, rtol=1e-6, atol=0)
    (_, nearest, whole), (_, _, sliced) = errors[1000][0], errors[100][0]
    assert sliced < 0.8 * nearest and sliced < 2 * whole


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_dead_channels_and_constant_inputs_are_no_obstacle(granularity: Any) -> None:
    model = make("Residual")
    with torch.no_grad():
        model.module.a[0].weight[3] = 0  # type: ignore[index]
        model.module.stem[1].weight.zero_()  # type: ignore[index]  # the layer after it sees the same everywhere,
        model.module.stem[1].bias.fill_(20)  # type: ignore[index]  # far from zero
    config = QuantizeConfig(weights=4, first_last=4, rounding="learned", granularity=granularity)
    result = quantize(model, images(), config)
    got, expected = TorchPredictor(result)(images()), TorchPredictor(model)(images())
    assert np.isfinite(got).all() and np.abs(got - expected).max() < 0.2 * np.abs(expected).max()
    layers = layers_of(result.module)  # type: ignore[arg-type]
    shared = [len(set(layer.quantizer.scale.tolist())) == 1 for layer in layers]
    assert all(shared) if granularity == "per_tensor" else not all(shared)
