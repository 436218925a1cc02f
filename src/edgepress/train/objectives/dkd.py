"""Decoupled knowledge distillation."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives, positive
from edgepress.train.objectives.rows import divergence, labelled, mean

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch

_NEVER = -1e37  # a logit whose softmax is 0, and which still can be subtracted from itself


@objectives.register("dkd")
@dataclass(frozen=True)
class DKD(Term):
    """`T^2 * (alpha * TCKD + beta * NCKD)`, mean over images or pixels that are not void.

    Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022. With `p` the softened probability of the true class,
    TCKD is the divergence of the pairs `(p, 1 - p)`, NCKD that of the softmax over the other classes. `kd` is the case
    `alpha = 1, beta = 1 - p_teacher`, which hardly counts the others where the teacher is sure. Its weight rises over
    a twelfth of the training (the authors: 20 of 240 epochs). Outputs are `(N, classes)` or `(N, classes, H, W)`.
    """

    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 8.0
    warmup: float = field(default=1 / 12, kw_only=True)

    needs_teacher = True

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)
        if self.alpha < 0 or self.beta < 0:
            raise ValueError(f"alpha and beta must be 0 or more, got {self.alpha} and {self.beta}")

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        ours, theirs, targets = labelled(outputs, batch)
        ours, theirs, right = ours / self.temperature, theirs / self.temperature, targets[:, None]
        target = _true_or_not(theirs, ours, right)
        others = divergence(_others(theirs, right).log_softmax(1), _others(ours, right).log_softmax(1))
        return self.temperature**2 * (self.alpha * mean(target) + self.beta * mean(others))


def _others(logits: "Tensor", right: "Tensor") -> "Tensor":
    return logits.scatter(1, right, _NEVER)


def _true_or_not(teacher: "Tensor", student: "Tensor", right: "Tensor") -> "Tensor":
    """Return `KL((p, 1 - p) || (q, 1 - q))` of the true class, `(n,)`."""
    (p, rest_p), (q, rest_q) = _split(teacher, right), _split(student, right)
    return p.exp() * (p - q) + rest_p.exp() * (rest_p - rest_q)


def _split(logits: "Tensor", right: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return the logarithms of the probability of the true class and of all others together, each `(n,)`."""
    whole = logits.logsumexp(1)
    return logits.gather(1, right)[:, 0] - whole, _others(logits, right).logsumexp(1) - whole
