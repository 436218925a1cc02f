"""The task's own loss against the true targets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("supervised")
@dataclass(frozen=True)
class Supervised(Term):
    """Cross-entropy with optional label smoothing (Szegedy et al., 2016); dense tasks average over counted pixels."""

    label_smoothing: float = 0.0

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        return task.loss(outputs, batch.targets, self.label_smoothing)
