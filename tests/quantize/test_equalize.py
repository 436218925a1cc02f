"""Factors move between layers without changing what the network computes."""

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec
from edgepress.export.graph import trace
from edgepress.quantize.equalize import equalize, pairs

SIGNATURE = Signature("classification", InputSpec(8, 8, 3, (0.5,) * 3, (0.2,) * 3), tuple("abcd"))


class Chain(nn.Module):
    """Convolution, what is between, depthwise convolution, ReLU, grouped convolution, pooling, linear."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.a, self.between, self.b = nn.Conv2d(3, 8, 3, padding=1), between, nn.Conv2d(8, 8, 3, groups=8)
        self.c, self.d = nn.Conv2d(8, 6, 1, groups=2), nn.Linear(6, 4)
        with torch.no_grad():
            self.a.weight.mul_(torch.logspace(-1.5, 1, 8)[:, None, None, None])
            self.a.bias.mul_(torch.logspace(-1.5, 1, 8))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.b(self.between(self.a(x)))), 2)
        return self.d(F.adaptive_avg_pool2d(F.relu(self.c(x)), 1).flatten(1))


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def traced(between: nn.Module) -> fx.GraphModule:
    torch.manual_seed(0)
    return trace(Chain(between), SIGNATURE)


@pytest.mark.parametrize("between", [nn.ReLU(), nn.LeakyReLU(0.1), nn.Identity()])
@pytest.mark.parametrize("by_activations", [True, False])
def test_the_function_stays_the_same(between: nn.Module, by_activations: bool, inputs: Tensor) -> None:
    graph = traced(between)
    before, weight = graph(inputs), graph.get_parameter("a.weight").clone()
    assert equalize(graph, inputs, by_activations) == 3
    torch.testing.assert_close(graph(inputs), before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(graph(inputs * 9), traced(between)(inputs * 9), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(graph.get_parameter("a.weight"), weight)


def test_the_weights_of_both_layers_have_the_same_range_afterwards(inputs: Tensor) -> None:
    graph = traced(nn.ReLU())
    equalize(graph, inputs, by_activations=False)
    first, second = (graph.get_parameter(f"{n}.weight").abs().flatten(1).amax(1) for n in "ab")
    assert (first / second - 1).abs().max() < 0.05  # type: ignore[operator]


def test_a_clamp_with_an_end_is_exact_on_the_images_seen(inputs: Tensor) -> None:
    graph = traced(nn.ReLU6())
    before = graph(inputs)
    clamped = traced(nn.ReLU())(inputs)
    assert not torch.allclose(before, clamped), "some values must reach the clamp for this test to mean anything"
    assert equalize(graph, inputs) == 3
    torch.testing.assert_close(graph(inputs), before, rtol=1e-4, atol=1e-5)


def test_nothing_moves_through_a_curve_or_a_branch() -> None:
    assert [p.first.name for p in pairs(traced(nn.Hardswish()))] == ["b_conv2d", "c_conv2d"]
    assert [p.first.name for p in pairs(traced(nn.GELU()))] == ["b_conv2d", "c_conv2d"]


def test_dead_channels_keep_their_weights(inputs: Tensor) -> None:
    torch.manual_seed(0)
    module = Chain(nn.ReLU())
    with torch.no_grad():
        module.a.weight[2], module.a.bias[2], module.b.weight[5] = 0, -1, 0  # type: ignore[index]
    graph = trace(module, SIGNATURE)
    before = graph(inputs)
    equalize(graph, inputs)
    torch.testing.assert_close(graph(inputs), before, rtol=1e-4, atol=1e-5)
    assert all(p.isfinite().all() for p in graph.parameters())
