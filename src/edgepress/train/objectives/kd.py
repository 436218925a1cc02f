"""Knowledge distillation by softened outputs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import Term, objectives, positive
from edgepress.train.objectives.rows import divergence

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("kd")
@dataclass(frozen=True)
class KD(Term):
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))`, mean over images or pixels.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015. The factor T^2 keeps the size of the
    gradient independent of T. Outputs are `(N, classes)` or `(N, classes, H, W)`.
    """

    temperature: float = 4.0

    needs_teacher = True
    usual: ClassVar[float] = 0.7
    usual_labels: ClassVar[float] = 0.3

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        assert batch.teacher is not None
        student = (outputs.float() / self.temperature).log_softmax(1)
        teacher = (batch.teacher.float() / self.temperature).log_softmax(1)
        return self.temperature**2 * divergence(teacher, student).mean()
