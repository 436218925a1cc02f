"""Scores against values computed by hand or by definition."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgepress.cost.budget import Budget
from edgepress.prune.config import PruneConfig
from edgepress.prune.graph import find_sites
from edgepress.prune.lasso import group_lasso
from edgepress.prune.prune import _evidence, prune
from edgepress.prune.scores.base import scores
from prune.helpers import images, small


def scored(name: str, model):
    pixels, targets = images(model)
    sites = find_sites(model.module, model.signature).sites
    return sites, scores.get(name)()(model.module, sites, _evidence(model.module, model.signature, pixels, targets))


@pytest.mark.parametrize("name", list(scores))
def test_every_score_gives_a_finite_number_per_unit_and_leaves_the_network_alone(name: str) -> None:
    model = small("branches")
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    sites, found = scored(name, model)
    assert [len(v) for v in found] == [len(s.units) for s in sites]
    assert all(bool((v.isfinite() & (v >= 0)).all()) and len(v.unique()) > 1 for v in found)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert all(p.grad is None for p in model.module.parameters())


def test_norms_by_hand() -> None:
    model = small("branches")
    sites, l1 = scored("l1", model)
    number = next(k for k, s in enumerate(sites) if s.path == "inner.0")
    weight, following = model.module.inner[0].weight, model.module.inner[2].weight
    torch.testing.assert_close(l1[number], weight.detach().abs().sum((1, 2, 3)))
    torch.testing.assert_close(scored("l2", model)[1][number], weight.detach().square().sum((1, 2, 3)).sqrt())
    both = weight.square().sum((1, 2, 3)) + following.square().sum((0, 2, 3))
    torch.testing.assert_close(scored("group_norm", model)[1][number], both.detach().sqrt())


def gates(model, number_of_units: int) -> torch.Tensor:
    """Return `(images, units)`: the derivative of each image's loss by a factor on the units of `inner.0`."""
    pixels, targets = images(model)
    evidence = _evidence(model.module, model.signature, pixels, targets)
    rows = []
    for k in range(len(pixels)):
        gate = torch.ones(number_of_units, requires_grad=True)
        handle = model.module.inner[1].register_forward_hook(lambda m, i, o, g=gate: o * g.view(1, -1, 1, 1))
        loss = F.cross_entropy(model.module.eval()(evidence.images[k : k + 1]), torch.tensor(targets[k : k + 1]))
        rows.append(torch.autograd.grad(loss, gate)[0])
        handle.remove()
    return torch.stack(rows)


def test_taylor_and_hessian_are_the_derivatives_by_a_gate() -> None:
    model = small("branches")
    sites, taylor = scored("taylor", model)
    number = next(k for k, s in enumerate(sites) if s.path == "inner.0")
    expected = gates(model, 24)
    torch.testing.assert_close(taylor[number], expected.abs().mean(0), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(scored("hessian", model)[1][number], expected.square().mean(0) / 2, rtol=1e-3, atol=1e-9)


def test_a_residual_stream_is_weighed_by_a_gate_at_all_that_take_it() -> None:
    model = small("branches")
    pixels, targets = images(model)
    evidence = _evidence(model.module, model.signature, pixels, targets)
    gate = torch.ones(len(pixels), 16, requires_grad=True)
    takers = (model.module.inner[0], model.module.grouped, model.module.side)
    for layer in takers:
        layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * gate[:, :, None, None],))
    outputs = model.module.eval()(evidence.images)
    loss = F.cross_entropy(outputs, torch.tensor(targets), reduction="sum")
    by_channel = torch.autograd.grad(loss, gate)[0]
    for layer in takers:
        layer._forward_pre_hooks.clear()
    sites, taylor = scored("taylor", model)
    number = next(k for k, s in enumerate(sites) if any(m.path == "stem" for m in s.members))
    units = torch.stack([by_channel[:, list(unit)].sum(1) for unit in sites[number].units], 1)
    torch.testing.assert_close(taylor[number], units.abs().mean(0), rtol=1e-3, atol=1e-6)


def test_a_silent_unit_is_worth_nothing_and_goes_first() -> None:
    model = small("branches")
    with torch.no_grad():
        model.module.inner[0].weight[5] = 0
        model.module.inner[0].bias[5] = -1
    pixels, targets = images(model)
    for name in ("taylor", "hessian", "apoz", "reconstruction", "l1"):
        sites, found = scored(name, model)
        number = next(k for k, s in enumerate(sites) if s.path == "inner.0")
        assert int(found[number].argmin()) == 5, name
    limit = sum(p.numel() for p in model.module.parameters()) - 100
    pruned, _ = prune(model, Budget(params=limit), PruneConfig(score="reconstruction"), pixels, targets)
    assert np.isfinite(pruned.module.inner[0].weight.detach().numpy()).all()


def test_group_lasso_by_hand() -> None:
    model = small("branches")
    site = next(s for s in find_sites(model.module, model.signature).sites if s.path == "inner.0")
    first, second = model.module.inner[0].weight, model.module.inner[2].weight
    norms = (first.square().sum((1, 2, 3)) + second.square().sum((0, 2, 3))).sqrt()
    size = 16 + 16 * 9
    torch.testing.assert_close(group_lasso(model.module, [site]), norms.sum() * size**0.5)
    group_lasso(model.module, [site]).backward()
    assert isinstance(first, nn.Parameter) and first.grad is not None and bool((first.grad != 0).any())
