"""Zeros in weights: how many, where, and what they gain."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepress.core.errors import ConfigError, EdgepressError
from edgepress.prune.config import SparsifyConfig
from edgepress.prune.sparse import sparsify, sparsify_
from prune.helpers import small


@given(st.floats(0.05, 0.95), st.integers(0, 1000))
def test_single_weights_the_smallest_of_all_layers_go(share: float, seed: int) -> None:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4))
    before = torch.cat([module[0].weight.flatten(), module[2].weight.flatten()]).detach().clone()
    masks = sparsify_(module, SparsifyConfig(sparsity=share))
    kept = torch.cat([m.flatten() for m in masks.values()])
    assert int((~kept).sum()) == min(round(share * 100), 99)
    assert float(before[~kept].abs().max() if (~kept).any() else 0) <= float(before[kept].abs().min())


def test_two_of_four_keeps_the_two_largest_inputs() -> None:
    layer = nn.Linear(4, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, -4.0, 2.0, 3.0], [0.5, 0.1, -0.2, 0.05]])
    sparsify_(layer, SparsifyConfig(pattern="2:4"))
    torch.testing.assert_close(layer.weight.detach(), torch.tensor([[0, -4.0, 0, 3], [0.5, 0, -0.2, 0]]))


def test_blocks_go_whole() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 30, 3)
    mask = sparsify_(layer, SparsifyConfig(pattern="block", block=(16, 1)))[""]
    assert mask.shape == layer.weight.shape
    for rows in (mask[:16], mask[16:]):
        assert bool((rows == rows[:1]).all())
    assert float((~mask).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_a_block_at_the_edge_weighs_what_it_holds() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 10))
    for part in module:
        nn.init.normal_(part.weight)
    masks = sparsify_(module, SparsifyConfig(sparsity=0.5, pattern="block", block=(16, 1)))
    shares = [float((~mask).float().mean()) for mask in masks.values()]
    assert abs(shares[0] - shares[1]) < 0.15, "ten classes are no multiple of 16, and weigh no less for it"


def test_the_gradual_schedule_rises_to_its_end() -> None:
    shares = [SparsifyConfig(sparsity=0.8, step=k, steps=4).share for k in (1, 2, 3, 4)]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(0.8)
    assert shares[0] == pytest.approx(0.8 * (1 - 0.75**3))


def test_the_report_says_what_is_gained_and_the_model_is_untouched() -> None:
    model = small("branches")
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    thin, report = sparsify(model, SparsifyConfig(sparsity=0.8))
    assert report.zeros == round(0.8 * report.weights)
    assert report.bytes_after < 0.6 * report.bytes_before
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert sum(int((p == 0).sum()) for p in thin.module.parameters()) >= report.zeros


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SparsifyConfig(sparsity=1.0), "sparsity must be"),
        (SparsifyConfig(pattern="2:4", sparsity=0.7), "a half is zero"),
        (SparsifyConfig(pattern="block", block=(0, 1)), "at least 1"),
        (SparsifyConfig(step=3, steps=2), "step must be"),
    ],
)
def test_settings_are_checked(config: SparsifyConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sparsify_(nn.Linear(4, 4), config)


def test_nothing_to_thin_out_and_weights_that_are_not_finite() -> None:
    with pytest.raises(EdgepressError, match="no layer"):
        sparsify_(nn.Sequential(nn.ReLU()), SparsifyConfig())
    layer = nn.Linear(4, 4)
    layer.weight.data[0] = float("inf")
    with pytest.raises(EdgepressError, match="not finite"):
        sparsify_(layer, SparsifyConfig())
