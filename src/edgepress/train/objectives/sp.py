"""Similarity-preserving distillation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs

if TYPE_CHECKING:
    from torch import Tensor


@objectives.register("sp")
@dataclass(frozen=True)
class SP(FeatureTerm):
    """`|G_t - G_s|_F^2 / N^2`, where G are the inner products `Q Q^T` of the flattened features, each row of norm 1.

    Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019. Images that are alike for the teacher are
    to be alike for the student. Features `(N, ...)` may differ in size; nothing is trained between. Weight 3000.
    """

    place: ClassVar[Place] = "last"
    joins = "anything"
    usual: ClassVar[float] = 3000.0

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        each = [(_similar(b) - _similar(a)).square().mean() for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)


def _similar(x: "Tensor") -> "Tensor":
    x = x.flatten(1)
    products = x @ x.T
    return products / products.norm(dim=1, keepdim=True).clamp(min=1e-12)
