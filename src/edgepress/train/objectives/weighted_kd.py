"""Soft labels weighted image by image, by what they do to bias and variance."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import Term, objectives, positive
from edgepress.train.objectives.rows import divergence, labelled, mean

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("weighted_kd")
@dataclass(frozen=True)
class WeightedKD(Term):
    """`w * T^2 * KL(teacher_T || student_T)` with `w = 1 - exp(-CE(student) / CE(teacher))` of each image or pixel.

    Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective", ICLR 2021.
    Where the teacher is far less sure of the true class than the student, its soft label brings bias and no less
    variance, and counts little. No gradient flows through the weight; T = 1 inside the two cross-entropies, void pixels
    do not count. Outputs are `(N, classes)` or `(N, classes, H, W)`. The authors weigh it 2.5.
    """

    temperature: float = 2.0

    needs_teacher = True
    usual: ClassVar[float] = 2.5

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        ours, theirs, targets = labelled(outputs, batch)
        right = targets[:, None]
        student = -ours.detach().log_softmax(1).gather(1, right)[:, 0]
        teacher = -theirs.log_softmax(1).gather(1, right)[:, 0]
        weight = 1 - (-student / teacher.clamp(min=1e-7)).exp()
        soft = divergence((theirs / self.temperature).log_softmax(1), (ours / self.temperature).log_softmax(1))
        return self.temperature**2 * mean(weight * soft)
