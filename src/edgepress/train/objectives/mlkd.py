"""Distillation of logits on three levels: image, batch, class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives, positive
from edgepress.train.objectives.rows import divergence, rows

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("mlkd")
@dataclass(frozen=True)
class MLKD(Term):
    """Sum over the temperatures T of three losses between softened probabilities `P` of N images and C classes.

    Jin et al., "Multi-Level Logit Distillation", CVPR 2023: `T^2 * KL` of each image (mean); `|P P^T - Q Q^T|^2 / N`,
    how images relate; `|P^T P - Q^T Q|^2 / C`, how classes relate. Where a batch holds more images than there are
    classes (the authors have 64 and 100) the latter products are multiplied by C / N, or they explode. This is the loss
    of the paper's equations, without the confidence masks and the second, stronger view of the authors' code. In dense
    tasks, outputs `(N, classes, H, W)`, the inner products are means over the pixels.
    """

    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)

    needs_teacher = True

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise ValueError("temperatures: name at least one")
        for value in self.temperatures:
            positive("temperatures", value)

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        assert batch.teacher is not None
        terms = [self._at(value, outputs.float(), batch.teacher.float()) for value in self.temperatures]
        return sum(terms[1:], terms[0])

    def _at(self, temperature: float, ours: "Tensor", theirs: "Tensor") -> "Tensor":
        student, teacher = (ours / temperature).log_softmax(1), (theirs / temperature).log_softmax(1)
        each = temperature**2 * divergence(rows(teacher), rows(student)).mean()
        return each + _relations(student.exp(), teacher.exp()) + _classes(student.exp(), teacher.exp())


def _relations(p: "Tensor", q: "Tensor") -> "Tensor":
    pixels = p[0, 0].numel()
    p, q = p.flatten(1), q.flatten(1)
    return (p @ p.T - q @ q.T).div(pixels).square().sum() / len(p)


def _classes(p: "Tensor", q: "Tensor") -> "Tensor":
    images, classes, pixels = p.shape[0], p.shape[1], p[0, 0].numel()
    p, q = rows(p), rows(q)
    return (p.T @ p - q.T @ q).mul(min(1.0, classes / images) / pixels).square().sum() / classes
