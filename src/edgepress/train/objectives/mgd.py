"""Masked generative distillation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("mgd")
@dataclass(frozen=True)
class MGD(FeatureTerm):
    """`sum((teacher - g(mask * r(student)))^2) / N`: the teacher's whole map from parts of the student's.

    Yang et al., "Masked Generative Distillation", ECCV 2022. `r` is a trained 1x1 convolution, `g` two trained 3x3
    convolutions with a ReLU between; the random mask blanks a share `masked` of the pixels of every image, anew in
    every step. Maps `(N, C, H, W)` of unequal size are pooled to the smaller. As the sum is large the
    authors' weight for such masks, in detection, is 2e-5.
    """

    masked: float = 0.65

    place: ClassVar[Place] = "last"
    usual: ClassVar[float] = 2e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.masked < 1:
            raise ValueError(f"masked must be in [0, 1), got {self.masked}")

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return masks and generators."""
        from edgepress.train.connectors import Generators

        return Generators(pairs, self.masked)

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        each = [(a - b).square().sum() / len(a) for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)
