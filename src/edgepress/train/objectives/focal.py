"""Focal loss: what is already right counts little."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from edgepress.train.objectives.base import Term, objectives
from edgepress.train.objectives.dense import Weights, at, counted, own_losses, weights_of
from edgepress.train.objectives.rows import mean

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.data.base import Data
    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("focal")
@dataclass(frozen=True)
class Focal(Term):
    """`mean(w[y] * (1 - p[y])^gamma * CE)` over the pixels (or images) that are not void; `p` are the softmax outputs.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, for several classes; gamma 0 is cross-entropy.
    `by` weights the classes as `weighted_ce` does. Outputs are `(N, classes, ...)`.
    """

    gamma: float = 2.0
    by: Weights = "none"
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"gamma must be 0 or more, got {self.gamma}")

    def informed(self, data: "Data") -> Self:
        """Return this loss with the weights of the classes of `data`."""
        return self if self.weights else replace(self, weights=weights_of(self.by, data))

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        logits, targets = counted(outputs, batch.targets)
        losses = own_losses(logits, targets)
        wrong = (1 - (-losses).exp()).clamp(min=1e-6)  # its power has no gradient at 0 for gamma below 1
        return mean(at(self.weights, targets) * wrong**self.gamma * losses)
