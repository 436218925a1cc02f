"""A measure: a frozen dataclass that looks at an artifact, changes nothing, and returns rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Artifact, Predictor, Program
from edgepress.core.config import STRICT
from edgepress.core.errors import DataError, EdgepressError
from edgepress.core.registry import Registry
from edgepress.core.stage import Progress
from edgepress.data.base import spread
from edgepress.measure import environment
from edgepress.measure.rows import Better, Row

if TYPE_CHECKING:
    from edgepress.data.base import Data, Split

T = TypeVar("T")


class Quiet:
    """A `Progress` that says nothing, for scripts and tests."""

    def track(self, steps: Iterable[T], total: int, label: str) -> Iterable[T]:
        """Return `steps` as they are."""
        return steps

    def status(self, text: str) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class MeasureContext:
    """What a measure may use: the artifact as a predictor, those it came from, the data, and how rows are named.

    `bundle` is the folder where a program lies, if it lies anywhere; `seeds` and `command` go into the rows; `notes` is
    what the stage wanted known about how it ran.
    """

    data: "Data"
    predictor: Predictor
    label: str
    progress: Progress
    parent: Predictor | None = None
    teacher: Predictor | None = None
    bundle: Path | None = None
    seeds: str = ""
    command: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def row(
        self,
        artifact: Artifact,
        metric: str,
        value: float,
        unit: str,
        better: Better,
        **more: Any,
    ) -> Row:
        """Return a row about `artifact`: its label, runtime and precision, this machine, now, and `more` fields."""
        about: dict[str, Any] = {
            "runtime": artifact.runtime if isinstance(artifact, Program) else "torch",
            "precision": artifact.precision,
            "seeds": self.seeds,
            "versions": environment.versions(),
            "machine": environment.machine(),
            "commit": environment.commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "command": self.command,
        }
        return Row(self.label, metric, float(value), unit, better, **{**about, **more})


@dataclass(frozen=True)
class Measure(ABC):
    """One kind of measurement; subclasses are decorated with `@measures.register("name")`, one file each."""

    __pydantic_config__ = STRICT

    def smoke(self) -> Self:
        """Return this measure shrunk to a trial of a few seconds."""
        return self

    @abstractmethod
    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return what was found about `artifact`, which stays untouched; an empty list where it does not apply."""


measures: Registry[type[Measure]] = Registry("measure", ("edgepress.measure",))


def split_of(data: "Data", name: str) -> "Split":
    """Return the split `name`; raise `DataError` where it is empty."""
    split: Split = {"train": data.train, "val": data.val, "test": data.test}[name]
    if len(split) == 0:
        raise DataError(f"data set {data.name!r} has no images in its {name} split: there is nothing to measure on")
    return split


def batches(
    split: "Split", size: int, images: int, progress: Progress, label: str
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield `images` images at even distances (0 = all) and their targets of `split`, `size` at a time."""
    places = spread(split, images or len(split))
    starts = range(0, len(places), size)
    for start in progress.track(starts, len(starts), label):
        yield split.read(places[start : start + size])


def predict(predictor: Predictor, images: NDArray[np.uint8], who: str) -> NDArray[np.float32]:
    """Return the outputs for `images`; raise `EdgepressError` where they are not finite, since a score of NaN lies."""
    outputs = predictor(images)
    if not np.isfinite(outputs).all():
        bad = int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(axis=1).sum())
        raise EdgepressError(
            f"{who}: the outputs of {bad} of {len(outputs)} images are not finite, so nothing can be measured; "
            "train with a lower learning rate, or measure the artifact it came from to find where it broke"
        )
    return outputs
