"""Variational information distillation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import FeatureTerm, objectives, over_pairs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("vid")
@dataclass(frozen=True)
class VID(FeatureTerm):
    """Mean of `((t - mu(s))^2 / var + log var) / 2`: the teacher's features under a Gaussian that the student predicts.

    Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019. `mu` is a trained stack of
    three 1x1 convolutions (linear layers for vectors), `var = softplus(a) + 1e-5` has one trained value per channel and
    begins at `initial`. Maps `(N, C, H, W)` of unequal size are pooled to the smaller. May be negative.
    """

    initial: float = 5.0

    joins = "alike"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.initial <= 1e-4:
            raise ValueError(f"initial must be above 0.0001, got {self.initial}")

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return the means, and the variances behind the student's features."""
        from edgepress.train.connectors import Gaussians

        return Gaussians(pairs, self.initial)

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """`ours` holds the means and then the variances (broadcastable to them); return the mean over the pairs."""
        means, variances = ours[: len(theirs)], ours[len(theirs) :]
        each = [
            ((t - mean).square() / var + var.log()).mean() / 2
            for mean, var, t in zip(means, variances, theirs, strict=True)
        ]
        return over_pairs(each)
