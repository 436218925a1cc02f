"""An objective is a weighted sum of terms; each term is one small frozen dataclass in a file of its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from edgepress.core.config import STRICT
from edgepress.core.registry import Registry
from edgepress.tasks.base import Task
from edgepress.train.loader import Batch


@dataclass(frozen=True)
class Term(ABC):
    """One loss. `needs_teacher` says whether `batch.teacher` must be there."""

    __pydantic_config__ = STRICT

    needs_teacher = False

    @abstractmethod
    def __call__(self, outputs: Tensor, batch: Batch, task: Task) -> Tensor:
        """Return the unweighted mean loss of the batch, a float32 scalar."""


@dataclass(frozen=True)
class Objective:
    """`terms`: (name, weight, term); a term of weight 0 is not computed."""

    terms: tuple[tuple[str, float, Term], ...]

    @property
    def needs_teacher(self) -> bool:
        """True where some term compares with a teacher."""
        return any(term.needs_teacher for _, weight, term in self.terms if weight)

    def __call__(self, outputs: Tensor, batch: Batch, task: Task) -> dict[str, Tensor]:
        """Return the weighted terms by name; the loss is their sum."""
        return {name: weight * term(outputs, batch, task) for name, weight, term in self.terms if weight}


objectives: Registry[type[Term]] = Registry("objective", ("edgepress.train.objectives",))
