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
