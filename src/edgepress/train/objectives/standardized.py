"""Logit standardization, around any loss on logits."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgepress.core.errors import ConfigError
from edgepress.train.objectives.base import FeatureTerm, Term, objectives

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("standardized")
@dataclass(frozen=True)
class Standardized(Term):
    """The loss `of` on the logits of student and teacher, each brought to mean 0 and deviation 1 over the classes.

    Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024: `z -> (z - mean(z)) / (std(z) + 1e-7)`,
    with the deviation of the population. The student is then free in scale and shift and only learns relations. `of`
    holds one loss with its fields, `{kd: {temperature: 2}}`, `{dkd: {beta: 8}}`; the authors weigh `kd` by 9 and the
    labels by 0.1. Only the `warmup` of the whole counts, not that of the loss inside. Outputs are `(N, classes)` or
    `(N, classes, H, W)`.
    """

    of: dict[str, Any] = field(default_factory=lambda: {"kd": {"temperature": 2.0}})

    needs_teacher = True
    usual: ClassVar[float] = 9.0
    usual_labels: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        try:
            inner = self._inner()
        except ConfigError as error:
            raise ValueError("; ".join(error.problems)) from None
        if isinstance(inner, FeatureTerm) or not inner.needs_teacher:
            raise ValueError("it standardizes logits: put a loss between the logits of student and teacher inside")

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        assert batch.teacher is not None
        teacher = standardize(batch.teacher.float())
        return self._inner()(standardize(outputs.float()), replace(batch, teacher=teacher), task)

    def _inner(self) -> Term:
        from edgepress.train.words import term_of

        return term_of(self.of, "of")


def standardize(logits: "Tensor") -> "Tensor":
    """Return logits `(N, classes, ...)` with mean 0 and deviation 1 over the classes."""
    centered = logits - logits.mean(1, keepdim=True)
    return centered / (logits.std(1, keepdim=True, correction=0) + 1e-7)
