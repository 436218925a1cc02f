import pytest
import torch
from torch import nn

from edgepress.core.errors import EdgepressError
from edgepress.export.graph import aten, trace
from quantize.nets import NETS, make


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("for_integers", [True, False])
def test_a_traced_network_computes_the_same(name: str, for_integers: bool) -> None:
    model = make(name)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    graph = trace(model.module, model.signature, for_integers)
    for count in (1, 3):
        x = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            torch.testing.assert_close(graph(x), model.module(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())


def test_batch_norms_are_folded_and_names_kept() -> None:
    model = make("Residual")
    graph = trace(model.module, model.signature)
    assert not any("batch_norm" in str(n.target) for n in graph.graph.nodes)
    assert {"stem.0.weight", "stem.0.bias", "head.linear.weight"} <= set(graph.state_dict())
    assert not any("running" in key for key in graph.state_dict())


def test_a_batch_norm_alone_becomes_a_depthwise_convolution() -> None:
    model = make("PreActivation")
    graph = trace(model.module, model.signature)
    groups = [n.args[6] for n in graph.graph.nodes if n.target is aten.conv2d.default and len(n.args) > 6]
    assert groups == [8, 8]


def test_a_traced_network_trains_and_has_stable_names() -> None:
    model = make("SqueezeExcite")
    a, b = trace(model.module, model.signature), trace(model.module, model.signature)
    assert [n.name for n in a.graph.nodes] == [n.name for n in b.graph.nodes]
    a.train()
    a(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in a.parameters())


def test_a_network_that_branches_on_its_values_is_named() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(EdgepressError, match="cannot export Branch"):
        trace(Branch(), make("Residual").signature)


class Listed(nn.Module):
    """Weights in a list, each before a batch norm, and a parameter that is called `bias` and is none of theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(3, 3, 3, 3) for _ in range(2)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(3) for _ in range(2)])
        self.bias = nn.Parameter(torch.randn(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for weight, norm in zip(self.weights, self.norms, strict=True):
            x = norm(torch.nn.functional.conv2d(x, weight, padding=1))
        return (x + self.bias).mean((2, 3))


class Rows(nn.Module):
    """A linear layer on rows of as many as it gives, and a batch norm that counts the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 24), nn.BatchNorm1d(24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x.flatten(1, 2))).mean(2)


class Twice(nn.Module):
    """One convolution and its batch norm, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(self.norm(self.conv(x)))).mean((2, 3))


@pytest.mark.parametrize("kind", [Listed, Rows, Twice])
@pytest.mark.parametrize("for_integers", [True, False])
def test_batch_norms_in_unusual_places(kind: type[nn.Module], for_integers: bool) -> None:
    torch.manual_seed(0)
    module = kind()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.uniform_(part.bias, -1, 1)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        graph = trace(module.eval(), make("Residual").signature, for_integers)
        torch.testing.assert_close(graph(x), module(x), rtol=1e-4, atol=1e-5)
