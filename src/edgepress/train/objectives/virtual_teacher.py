"""A teacher made by hand: distillation without a teacher."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.tasks.cross_entropy import void_of
from edgepress.train.objectives.base import Term, objectives, positive
from edgepress.train.objectives.rows import mean, rows

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("virtual_teacher")
@dataclass(frozen=True)
class VirtualTeacher(Term):
    """`T^2 * KL(q_T || softmax(student / T))` with the hand-made distribution `q`: `correct` for the true class, the
    rest spread evenly; `q_T` is `q` softened like logits, `q^(1 / T)` normalized.

    Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020 (Tf-KD with a virtual
    teacher, T = 20). Label smoothing is the case T = 1. Usable by `train`: it needs no teacher. Void pixels do not
    count; outputs are `(N, classes)` or `(N, classes, H, W)`.
    """

    correct: float = 0.99
    temperature: float = 20.0

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        if not 0 < self.correct < 1:
            raise ValueError(f"correct must be in (0, 1), got {self.correct}")

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        ours, targets = rows(outputs), batch.targets.flatten()
        classes = ours.shape[1]
        counted = targets != void_of(classes)
        ours, targets = ours[counted], targets[counted]
        hard = ours.new_full(ours.shape, (1 - self.correct) / max(classes - 1, 1))
        soft = hard.scatter(1, targets[:, None], self.correct).log().div(self.temperature).log_softmax(1)
        student = (ours / self.temperature).log_softmax(1)
        return self.temperature**2 * mean((soft.exp() * (soft - student)).sum(1))
