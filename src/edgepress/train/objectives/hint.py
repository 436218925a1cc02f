"""Hints: the student's features, brought to the teacher's channels, equal the teacher's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("hint")
@dataclass(frozen=True)
class Hint(FeatureTerm):
    """`mean((r(student) - teacher)^2)` with `r` a trained 1x1 convolution and batch normalization (a linear layer for
    vectors).

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, in one training as in later work: there the hints
    come first and the labels after. Maps `(N, C, H, W)` of unequal size are pooled to the smaller. Weight 100.
    """

    place: ClassVar[Place] = "middle"
    joins = "alike"
    usual: ClassVar[float] = 100.0

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return one projection per pair."""
        from edgepress.train.connectors import Projections

        return Projections(pairs, normalized=True)

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        each = [(a - b).square().mean() for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)
