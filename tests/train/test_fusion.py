"""The fusion of ReviewKD against the paper's formula written out, and the order its gradients come back in."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgepress.train.features import _evenly
from edgepress.train.fusion import Fusion
from edgepress.train.objectives.base import Pair
from edgepress.train.objectives.review import Review, _context
from train import golden


def _plainly(fusion: Fusion, maps: list[Tensor]) -> list[Tensor]:
    """What the authors' code does: the deeper residual is enlarged, joined to the level and asked about."""
    found, deeper = [], None
    for level, x in reversed(list(zip(fusion.levels, maps, strict=True))):
        x = level.enter(x)
        if level.attend is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            weights = torch.sigmoid(level.attend(torch.cat((x, deeper), 1)))
            x = x * weights[:, 0:1] + deeper * weights[:, 1:2]
        deeper = x
        found.append(level.leave(x))
    return found[::-1]


def test_fusion_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    sizes = [(4, 14, 14), (6, 7, 7), (8, 3, 3)]  # 7 to 14 doubles, 3 to 7 does not
    maps = [torch.randn(2, *size, requires_grad=True) for size in sizes]
    fusion = Fusion([Pair("a", "b", size, size) for size in sizes], 5)
    found, expected = fusion(maps, [x.detach() for x in maps])[0], _plainly(fusion, maps)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    weights = [*fusion.parameters(), *maps]
    ours, theirs = (torch.autograd.grad(sum(x.sin().sum() for x in each), weights) for each in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_deepest_level_may_be_a_vector() -> None:
    torch.manual_seed(0)
    fusion = Fusion([Pair("a", "b", (6, 4, 4), (3, 8, 8)), Pair("head:in", "fc:in", (7,), (9,))], 5)
    student = [torch.randn(2, 6, 4, 4), torch.randn(2, 7)]
    teacher = [torch.randn(2, 3, 8, 8), torch.randn(2, 9)]
    ours, theirs = fusion(student, teacher)
    assert [tuple(x.shape) for x in ours] == [tuple(x.shape) for x in theirs] == [(2, 3, 4, 4), (2, 9, 1, 1)]
    torch.testing.assert_close(theirs[1].flatten(1), teacher[1])
    expected = _plainly(fusion, [student[0], student[1][:, :, None, None]])
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("width", [0, 200, 3])
def test_a_fusion_is_as_wide_as_the_networks_unless_told(width: int) -> None:
    pairs = (Pair("a", "b", (6, 4, 4), (40, 8, 8)), Pair("head:in", "fc:in", (7,), (9,)))
    made = Review(width=width).connector(pairs)
    assert {level.enter[0].out_channels for level in made.levels} == {width or 40}
    assert Review().connector((Pair("a", "b", (6, 4, 4), (2048, 8, 8)),)).levels[0].enter[0].out_channels == 128


@pytest.mark.parametrize("size", [(2, 3), (4, 4), (7, 7), (8, 8), (6, 10), (12, 32)])
def test_context_of_any_size(size) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 5, *size), torch.randn(3, 5, *size)
    assert _context(a, b).item() == pytest.approx(golden.context(a.double().numpy(), b.double().numpy()), rel=1e-4)


def test_gradients_come_back_in_the_order_of_the_map() -> None:
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    seen: list[Tensor] = []
    y = _evenly(x * 2)
    y.register_hook(seen.append)
    F.adaptive_avg_pool2d(y, 1).sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
