"""Contrastive representation distillation within the batch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("crd_in_batch")
@dataclass(frozen=True)
class InBatchCRD(FeatureTerm):
    """`-log(exp(s_i . t_i / T) / sum_j exp(s_i . t_j / T))`, and the same with `s` and `t` exchanged; mean over images.

    After Tian et al., "Contrastive Representation Distillation", ICLR 2020: student and teacher embed an image alike
    and different images differently. The negatives are the other images of the batch (InfoNCE, van den Oord et al.,
    2018); `crd` remembers all images. Both embeddings are trained linear maps to `width` numbers, then of norm 1.
    Features are vectors; maps are averaged over their pixels. Weight 0.8.
    """

    temperature: float = 0.07
    width: int = 128

    place: ClassVar[Place] = "embedding"
    joins = "anything"
    usual: ClassVar[float] = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature)
        positive("width", self.width)

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return the two embeddings."""
        from edgepress.train.connectors import Embeddings

        return Embeddings(pairs, self.width)

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features `(N, width)` of norm 1."""
        each = [self._pair(a, b) for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)

    def _pair(self, ours: "Tensor", theirs: "Tensor") -> "Tensor":
        scores = ours @ theirs.T / self.temperature
        return -(scores.log_softmax(1).diagonal() + scores.log_softmax(0).diagonal()).mean()
