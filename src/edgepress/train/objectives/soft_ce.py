"""Cross-entropy against a teacher's softened outputs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives, positive

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("soft_ce")
@dataclass(frozen=True)
class SoftCrossEntropy(Term):
    """`-T^2 * sum(softmax(teacher / T) * log softmax(student / T))`, mean over images or pixels.

    The first form of distillation (Hinton et al., 2015); its gradient is that of `kd`, its value larger by the entropy
    of the soft labels. Outputs are `(N, classes)` or `(N, classes, H, W)`.
    """

    temperature: float = 4.0

    needs_teacher = True

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        assert batch.teacher is not None
        student = (outputs.float() / self.temperature).log_softmax(1)
        teacher = (batch.teacher.float() / self.temperature).softmax(1)
        return -(self.temperature**2) * (teacher * student).sum(1).mean()
