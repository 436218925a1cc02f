"""Cross-entropy of the hardest pixels only."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives
from edgepress.train.objectives.dense import counted, own_losses
from edgepress.train.objectives.rows import mean

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("ohem")
@dataclass(frozen=True)
class OHEM(Term):
    """The mean cross-entropy of the pixels whose true class has a probability below `threshold`; where they are fewer
    than the share `least` of the batch, of the hardest so many.

    Shrivastava, Gupta and Girshick, "Training Region-based Object Detectors with Online Hard Example Mining", CVPR
    2016, in the form that segmentation uses. Void pixels do not count. Outputs are `(N, classes, ...)`.
    """

    threshold: float = 0.7
    least: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or not 0 < self.least <= 1:
            raise ValueError(f"threshold and least lie in (0, 1], got {self.threshold} and {self.least}")

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        losses = own_losses(*counted(outputs, batch.targets))
        hard = losses[(-losses.detach()).exp() < self.threshold]
        least = round(self.least * len(losses))
        return mean(losses.topk(least).values if len(hard) < least else hard)
