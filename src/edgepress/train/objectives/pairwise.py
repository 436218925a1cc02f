"""Structured distillation: how the places of an image relate to each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("pairwise")
@dataclass(frozen=True)
class Pairwise(FeatureTerm):
    """`mean((A_s - A_t)^2)`: `A` are the cosines between all pairs of places of one image, each place the largest value
    per channel within a patch.

    Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019 (the pair-wise part, which the
    authors weigh 1 beside 10 for KD on pixels). Maps `(N, C, H, W)` are pooled so that at most `side` x `side` places
    are compared; channels may differ and nothing is trained. Memory grows with `side^4`.
    """

    side: int = 12

    place: ClassVar[Place] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("side", self.side)

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return what brings the maps to one size."""
        from edgepress.train.connectors import SameSize

        return SameSize()

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        each = [(self._cosines(a) - self._cosines(b)).square().mean() for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)

    def _cosines(self, x: "Tensor") -> "Tensor":
        from torch.nn import functional as F

        sides = [min(size, self.side) for size in x.shape[2:]]
        places = F.adaptive_max_pool2d(x, sides).flatten(2)
        places = places / places.norm(dim=1, keepdim=True).clamp(min=1e-8)
        return places.transpose(1, 2) @ places
