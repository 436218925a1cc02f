"""Knowledge distillation by softened outputs."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from edgepress.tasks.base import Task
from edgepress.train.loader import Batch
from edgepress.train.objectives.base import Term, objectives


@objectives.register("kd")
@dataclass(frozen=True)
class KD(Term):
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))`, mean over images or pixels.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015. The factor T^2 keeps the size of the
    gradient independent of T. Outputs are `(N, classes)` or `(N, classes, H, W)`.
    """

    temperature: float = 4.0

    needs_teacher = True

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")

    def __call__(self, outputs: Tensor, batch: Batch, task: Task) -> Tensor:
        assert batch.teacher is not None
        student = F.log_softmax(outputs.float() / self.temperature, dim=1)
        teacher = F.log_softmax(batch.teacher.float() / self.temperature, dim=1)
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
        return self.temperature**2 * divergence.mean()
