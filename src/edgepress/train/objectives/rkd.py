"""Relational knowledge distillation: distances and angles between images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs

if TYPE_CHECKING:
    from torch import Tensor


@objectives.register("rkd")
@dataclass(frozen=True)
class RKD(FeatureTerm):
    """`distance * L_D + angle * L_A`: how the images of a batch lie to each other, in both networks.

    Park et al., "Relational Knowledge Distillation", CVPR 2019. `L_D` is the Huber loss between pairwise Euclidean
    distances, each divided by their mean over unequal pairs; `L_A` that between the cosines of the angles at every
    triple `(i, j, k)`. Both are means over all pairs or triples. Features `(N, ...)` are flattened; they need not be of
    one size in both networks, so nothing is trained between. Memory grows with N^3.
    """

    distance: float = 25.0
    angle: float = 50.0

    place: ClassVar[Place] = "embedding"
    joins = "anything"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance < 0 or self.angle < 0:
            raise ValueError(f"distance and angle must be 0 or more, got {self.distance} and {self.angle}")

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        each = [self._pair(a.flatten(1), b.flatten(1)) for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)

    def _pair(self, ours: "Tensor", theirs: "Tensor") -> "Tensor":
        total = ours.new_zeros(())
        if self.distance:
            total = total + self.distance * _huber(_distances(ours) - _distances(theirs))
        if self.angle:
            total = total + self.angle * _huber(_angles(ours) - _angles(theirs))
        return total


def _huber(difference: "Tensor") -> "Tensor":
    size = difference.abs()
    return size.where(size >= 1, 0.5 * size.square() + 0.5).sub(0.5).mean()


def _distances(x: "Tensor") -> "Tensor":
    found = (x[None] - x[:, None]).norm(dim=2)
    unequal = found[found > 0]
    return found / unequal.mean().clamp(min=1e-12) if unequal.numel() else found


def _angles(x: "Tensor") -> "Tensor":
    """Return `cos(i, j, k)`, `(N, N, N)` with the corner `j` first."""
    edges = x[None] - x[:, None]
    edges = edges / edges.norm(dim=2, keepdim=True).clamp(min=1e-12)
    return edges @ edges.transpose(1, 2)
