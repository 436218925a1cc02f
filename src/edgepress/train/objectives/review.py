"""Knowledge review: every level of the student learns from the teacher's level and those below it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import FeatureTerm, objectives

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair

WIDEST = 128
"""Channels of the fusion where nobody says, at most."""


@objectives.register("review")
@dataclass(frozen=True)
class Review(FeatureTerm):
    """Sum over the levels of the hierarchical context loss between the student's fused features and the teacher's.

    Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021. Trained attention-based fusion (ABF) mixes each
    level of the student with the already fused deeper one. The context loss is the mean squared difference of the maps
    (weight 1) and of the maps pooled to 4x4, 2x2 and 1x1, each of half the weight before, divided by the sum of the
    weights; sizes that a map does not exceed are left out. Maps `(N, C, H, W)`, shallow to deep; vectors, such as what
    the classifiers take, count as maps of one pixel. Levels are counted from the deepest, as the authors do: those of
    MobileNets and ResNets, whose maps differ in size, are paired by their depth.

    `width` is the number of channels of the fusion; 0 takes the most that a level of either network has, at most 128
    (the authors': 64 to 512, which costs more time). The authors' weights lie in 0.6 to 10, 5 and more for students of
    another family, and rise over 20 of 240 epochs: a twelfth.
    """

    width: int = 0
    warmup: float = field(default=1 / 12, kw_only=True)

    place = "levels"
    joins = "alike"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 0:
            raise ValueError(f"width must be above 0, or 0 for that of the networks, got {self.width}")

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return the fusion of all levels."""
        from edgepress.train.fusion import Fusion

        widest = max(channels for pair in pairs for channels in (pair.ours[0], pair.theirs[0]))
        return Fusion(pairs, self.width or min(widest, WIDEST))

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the sum over the pairs of features."""
        each = [_context(a, b) for a, b in zip(ours, theirs, strict=True)]
        return sum(each[1:], each[0])


def _context(ours: "Tensor", theirs: "Tensor") -> "Tensor":
    from edgepress.train.connectors import pooled

    # Means are linear: the difference is pooled in place of both maps, and where all windows are alike a pooled map
    # pools on.
    whole = small = ours - theirs
    nested = all(side % 4 == 0 for side in whole.shape[2:])
    total, weights, weight = whole.square().mean(), 1.0, 1.0
    for side in (4, 2, 1):
        if side < min(whole.shape[2:]):
            small = pooled(small if nested else whole, (side, side))
            weight /= 2
            total = total + weight * small.square().mean()
            weights += weight
    return total / weights
