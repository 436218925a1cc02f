"""Distillation from a stronger teacher: correlations instead of equal probabilities."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives, positive
from edgepress.train.objectives.rows import rows

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("dist")
@dataclass(frozen=True)
class DIST(Term):
    """`T^2 * (beta * inter + gamma * intra)`: one minus Pearson's correlation of the softened probabilities.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022. `inter` correlates the classes within
    each image (or pixel), `intra` the images within each class; both are means. The authors use T = 4 on CIFAR and
    T = 1 on ImageNet. Outputs are `(N, classes)` or `(N, classes, H, W)`; in dense tasks a pixel counts as an image.
    """

    temperature: float = 4.0
    beta: float = 2.0
    gamma: float = 2.0

    needs_teacher = True

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        if self.beta < 0 or self.gamma < 0:
            raise ValueError(f"beta and gamma must be 0 or more, got {self.beta} and {self.gamma}")

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        assert batch.teacher is not None
        ours = (rows(outputs) / self.temperature).softmax(1)
        theirs = (rows(batch.teacher) / self.temperature).softmax(1)
        inter = 1 - _pearson(ours, theirs).mean()
        intra = 1 - _pearson(ours.T, theirs.T).mean()
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)


def _pearson(a: "Tensor", b: "Tensor") -> "Tensor":
    """Return the correlation of every row of `a` with that of `b`."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-8)
