"""Channel-wise distillation: where each channel is active."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("cwd")
@dataclass(frozen=True)
class CWD(FeatureTerm):
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))` over the pixels of each channel, mean over channels.

    Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021. A trained 1x1 convolution brings
    the student to the teacher's channels where they differ. Maps `(N, C, H, W)`; of unequal size, they are pooled to
    the smaller. The authors weigh features 50; for the logit maps of a segmentation network there is `cwd_logits`.
    """

    temperature: float = 4.0

    place: ClassVar[Place] = "last"
    usual: ClassVar[float] = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature)

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return one projection per pair of unequal channels."""
        from edgepress.train.connectors import Projections

        return Projections(pairs, keep_equal=True)

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        pairs = zip(ours, theirs, strict=True)
        each = [channelwise(a.flatten(2), b.flatten(2), self.temperature) for a, b in pairs]
        return over_pairs(each)


def channelwise(ours: "Tensor", theirs: "Tensor", temperature: float) -> "Tensor":
    """Return the loss for maps `(N, C, pixels)` of equal shape, float32."""
    student, teacher = ((x / temperature).log_softmax(2) for x in (ours, theirs))
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(2).mean()
