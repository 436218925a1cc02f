"""An objective is a weighted sum of terms; each term is one small frozen dataclass in a file of its own.

Everything in this folder can be imported without torch, so that a recipe that names a loss is checked in the first
second: the losses are written with the methods of the tensors they are given.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from edgepress.core.config import STRICT
from edgepress.core.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from edgepress.core.artifact import Signature
    from edgepress.data.base import Data
    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch

Place = Literal["stages", "levels", "middle", "last", "normalized", "embedding"]
"""Where features are compared if no module is named: the ends of all stages; the same counted from the deepest, and
what the classifier takes as one more (`levels`); the middle or the last of them; the last batch normalizations of the
stages (features before their activation); or what the classifier takes alone."""


Where = Literal["encoder", "bottleneck", "decoder", "all"]
"""A part of a network that first makes maps smaller and then larger again."""


@dataclass(frozen=True)
class Term(ABC):
    """One loss. `needs_teacher` says whether `batch.teacher` must be there.

    `usual` is the weight that its paper gives it beside the loss on the labels, which then weighs `usual_labels`.
    Over the share `warmup` of the training that weight rises from 0.
    """

    __pydantic_config__ = STRICT

    warmup: float = field(default=0.0, kw_only=True)

    needs_teacher = False
    usual: ClassVar[float] = 1.0
    usual_labels: ClassVar[float] = 1.0

    def informed(self, data: "Data") -> Self:
        """Return this loss with what it needs to know of the training data, such as how rare each class is."""
        return self

    def bound(self, module: "nn.Module", signature: "Signature", processes: int) -> "Term":
        """Return this loss for the network that is trained, by so many processes, where it looks at its weights."""
        return self

    @abstractmethod
    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        """Return the unweighted mean loss of the batch, a float32 scalar."""


def risen(warmup: float, done: float) -> float:
    """Return the factor of a weight that rises from 0 to 1 over the share `warmup` of a training, `done` of which is
    behind it."""
    return min(done / warmup, 1.0) if warmup else 1.0


def over_pairs(losses: "Sequence[Tensor]") -> "Tensor":
    """Return the mean of the losses of pairs of features, of which there is at least one."""
    return sum(losses[1:], losses[0]) / len(losses)


@dataclass(frozen=True)
class Pair:
    """A module of the student and one of the teacher, by path, and the shapes of what they give for one image:
    `(channels, height, width)` for maps, `(channels,)` for vectors."""

    student: str
    teacher: str
    ours: tuple[int, ...]
    theirs: tuple[int, ...]


@dataclass(frozen=True)
class FeatureTerm(Term):
    """A loss between features. `student` and `teacher` name modules by path or glob (`layer2.1.conv2`, `layer*`), in
    the same order; `path:in` is what a linear layer takes. Without them the stages of the two
    networks are paired automatically: all that the loss is made for, or those that `where` names. Where maps are
    smallest is the bottleneck, before it lies the encoder, behind it the decoder.
    """

    student: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()
    where: Where | None = None

    needs_teacher = True
    place: ClassVar[Place] = "stages"
    joins: ClassVar[Literal["maps", "alike", "anything"]] = "maps"
    """The features it can compare: maps with maps, also vectors with vectors, or anything."""

    def __post_init__(self) -> None:
        if bool(self.student) != bool(self.teacher):
            raise ValueError("'student' and 'teacher' belong together: name the modules of both networks or of none")
        if self.where and self.student:
            raise ValueError("'where' pairs modules by itself: leave it out, or 'student' and 'teacher'")

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module | None":
        """Return what is trained between the networks, None where nothing is.

        Its `forward` takes the features of student and teacher (two lists of `(N, C, H, W)` or `(N, C)`) and returns
        the two lists that `compare` is given.
        """
        return None

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        assert batch.taps is not None
        return self.compare(*batch.taps.joined(self))

    @abstractmethod
    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean loss over pairs of features, float32, as the connector (if any) has left them."""


@dataclass(frozen=True)
class Objective:
    """`terms`: (name, weight, term); a term of weight 0 is not computed."""

    terms: tuple[tuple[str, float, Term], ...]

    @property
    def needs_teacher(self) -> bool:
        """True where some term compares with a teacher."""
        return any(term.needs_teacher for _, weight, term in self.terms if weight)

    @property
    def features(self) -> tuple[FeatureTerm, ...]:
        """The terms that compare features."""
        return tuple(term for _, weight, term in self.terms if weight and isinstance(term, FeatureTerm))

    def informed(self, data: "Data") -> Self:
        """Return this objective with what its terms need to know of the training data."""
        return replace(self, terms=tuple((name, weight, term.informed(data)) for name, weight, term in self.terms))

    def bound(self, module: "nn.Module", signature: "Signature", processes: int) -> Self:
        """Return this objective for the network that is trained."""
        terms = ((name, weight, term.bound(module, signature, processes)) for name, weight, term in self.terms)
        return replace(self, terms=tuple(terms))

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "dict[str, Tensor]":
        """Return the weighted terms by name; the loss is their sum."""
        return {
            name: weight * risen(term.warmup, batch.done) * term(outputs, batch, task)
            for name, weight, term in self.terms
            if weight
        }

    def blended(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "dict[str, Tensor]":
        """Return the weighted terms by name; of blended images (mixup) those for both labels, weighted alike."""
        if batch.blend is None:
            return self(outputs, batch, task)
        partner = replace(batch, targets=batch.targets[batch.blend.partners])
        ours, theirs = self(outputs, batch, task), self(outputs, partner, task)
        return {name: theirs[name].lerp(ours[name], batch.blend.weight) for name in ours}


objectives: Registry[type[Term]] = Registry("objective", ("edgepress.train.objectives", "edgepress.chain.objectives"))


def positive(name: str, value: float) -> None:
    """Raise `ValueError` where a number of a configuration is not above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
