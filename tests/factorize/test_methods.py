"""Each decomposition: exact at full rank, honest about what it loses and costs; VBMF finds planted ranks."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec
from edgepress.factorize.layers import Factored
from edgepress.factorize.methods.base import Method, methods
from edgepress.factorize.pieces import Whole, cost, read
from edgepress.factorize.vbmf import vbmf_rank
from edgepress.models.count import count_macs, count_params

SIZE = (9, 11)
LAYERS: dict[str, Any] = {
    "linear": lambda: nn.Linear(12, 20),
    "pointwise": lambda: nn.Conv2d(12, 20, 1, stride=2),
    "plain": lambda: nn.Conv2d(12, 20, 3, stride=2, padding=1),
    "uneven": lambda: nn.Conv2d(6, 8, (3, 5), stride=(1, 2), padding=(2, 1), dilation=(1, 2), bias=False),
    "reflect": lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"),
    "same": lambda: nn.Conv2d(6, 8, 3, padding="same", dilation=2),
}
CASES = [
    (kind, name) for kind in LAYERS for name in methods if name != "cp" and methods.get(name).fits(read(LAYERS[kind]()))
]


def chain(method: Method, whole: Whole, ranks: tuple[int, ...]) -> Factored:
    parts = [piece.make() for piece in method.pieces(whole, ranks)]
    with torch.no_grad():
        for part, tensor in zip(parts, method.tensors(whole, ranks), strict=True):
            part.weight.copy_(tensor)
        if whole.bias is not None:
            parts[-1].bias.copy_(whole.bias)
    return Factored(*parts)


def sample(layer: nn.Module) -> torch.Tensor:
    return torch.randn(2, 5, 12) if isinstance(layer, nn.Linear) else torch.randn(2, layer.in_channels, *SIZE)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_at_full_rank_nothing_is_lost_and_the_chain_knows_what_it_computes(kind: str, name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    method, whole = methods.get(name), read(layer)
    factored = chain(method, whole, method.full(whole))
    x = sample(layer)
    torch.testing.assert_close(factored(x), layer(x), rtol=1e-4, atol=1e-5)
    back = factored.whole()
    assert back.piece == whole.piece
    torch.testing.assert_close(back.weight, whole.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_ranks_lose_no_more_than_promised(kind: str, name: str) -> None:
    torch.manual_seed(1)
    whole, method = read(LAYERS[kind]()), methods.get(name)
    tails = method.tails(whole)
    for loss in (0.5, 0.1, 0.01):
        ranks = method.at_loss(whole, tails, loss)
        lost = chain(method, whole, ranks).whole().weight - whole.weight
        share = float(lost.square().sum() / whole.weight.square().sum())
        assert share <= method.loss(whole, tails, ranks) + 1e-6 and share <= loss + 1e-6
    assert sum(method.at_loss(whole, tails, 0.5)) < sum(method.at_loss(whole, tails, 0.01))


def test_cp_finds_a_planted_rank() -> None:
    torch.manual_seed(2)
    layer = nn.Conv2d(10, 12, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("or,ir,kr->oik", *(torch.randn(n, 3) for n in (12, 10, 9))).view(12, 10, 3, 3))
    method, whole = methods.get("cp"), read(layer)
    ranks = method.at_loss(whole, method.tails(whole), 0.01)
    assert 3 <= ranks[0] <= 4
    x = sample(layer)
    off = (chain(method, whole, ranks)(x) - layer(x)).norm() / layer(x).norm()
    assert float(off.detach()) < 0.1


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["tucker", "spatial", "cp"]),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 2),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.integers(1, 6),
)
def test_costs_are_those_of_the_layers(
    name: str, stride: int, padding: int, dilation: int, kernel: Any, rank: int
) -> None:
    layer = nn.Conv2d(3, 7, kernel, stride, padding, dilation)
    method, whole = methods.get(name), read(layer)
    if not method.fits(whole):
        return
    pieces = method.pieces(whole, tuple(min(rank, full) for full in method.full(whole)))
    module = nn.Sequential(*(piece.make() for piece in pieces))
    sign = Signature("classification", InputSpec(*SIZE), ("a",))
    assert cost("params", pieces, SIZE) == count_params(module)
    assert cost("macs", pieces, SIZE) == count_macs(module, sign)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_coarsest_choice_is_rank_one(kind: str, name: str) -> None:
    torch.manual_seed(0)
    method, whole = methods.get(name), read(LAYERS[kind]())  # random weights: no rank above 1 loses little
    rungs = method.rungs(whole, method.tails(whole))
    assert set(rungs[0]) == {1}
    assert all(a <= b for few, more in itertools.pairwise(rungs) for a, b in zip(few, more, strict=True))


@pytest.mark.parametrize(
    ("rows", "columns", "rank", "noise"), [(50, 100, 5, 0.1), (100, 50, 0, 1.0), (64, 576, 10, 0.5), (80, 80, 20, 0.2)]
)
def test_vbmf_finds_the_signal(rows: int, columns: int, rank: int, noise: float) -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns)) / max(rank, 1) ** 0.5
    matrix = signal + noise * rng.standard_normal((rows, columns))
    assert vbmf_rank(np.linalg.svd(matrix, compute_uv=False), rows, columns) == rank


def test_vbmf_of_nothing() -> None:
    assert vbmf_rank(np.zeros(4), 4, 8) == 0
