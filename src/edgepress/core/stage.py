"""A stage: a frozen dataclass whose fields are its whole configuration, mapping an artifact to an artifact."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from edgepress.core.artifact import Artifact
from edgepress.core.config import STRICT
from edgepress.core.ranks import ALONE, Ranks
from edgepress.core.registry import Registry

if TYPE_CHECKING:
    from edgepress.data.base import Data

T = TypeVar("T")


class Progress(Protocol):
    """What a long loop tells the person at the terminal."""

    def track(self, steps: Iterable[T], total: int, label: str) -> Iterable[T]:
        """Yield from `steps` under a progress bar with an ETA."""
        ...

    def status(self, text: str) -> None:
        """Show `text` (loss, accuracy, images per second) beside the current bar."""
        ...

    def say(self, text: str) -> None:
        """Print one line that stays."""
        ...


class Checkpoint(Protocol):
    """Where a stage in progress keeps its state, so that a killed run goes on from there."""

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state (nested dicts of tensors and plain values), or None."""
        ...

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state by `state`, atomically."""
        ...


class Observer(Protocol):
    """Who looks on while a network is trained, and changes nothing: what trackers are told comes from here."""

    every: int
    """Steps between two calls of `step`."""

    def begin(self, step: int, about: dict[str, Any]) -> None:
        """The training goes on from `step`, 0 where it is a fresh one; `about` says how it is done."""
        ...

    def step(self, step: int, values: dict[str, float]) -> None:
        """Step number `step` (from 1) is done: its loss, terms, learning rate and images a second."""
        ...

    def epoch(self, step: int, record: dict[str, Any], predict: "Callable[[Any], Any]", module: "Any") -> None:
        """An epoch ends with `step`: its record, the network in evaluation mode, and the function from uint8 images
        `(n, C, H, W)` to outputs in the arithmetic of the training."""
        ...

    def wants_images(self, step: int) -> bool:
        """Return whether `images` is to be called after `step`, within an epoch."""
        ...

    def images(self, step: int, predict: "Callable[[Any], Any]", module: "Any") -> None:
        """Look at the network as it is after `step`."""
        ...

    def end(self) -> None:
        """The training is over, well or badly."""
        ...


@dataclass(frozen=True)
class Context:
    """What a stage may use beside its own fields. `references` holds the artifacts its `$name` fields point at."""

    data: "Data"
    seed: int
    progress: Progress
    checkpoint: Checkpoint
    log: Callable[[list[dict[str, Any]]], None]
    """Replaces the stage's log by these records."""
    cache: Path
    """A folder for what may be computed again: teacher outputs, measured choices."""
    notes: dict[str, Any]
    """What the stage wants known about how it ran (chosen precision, skipped layers); kept beside the artifact."""
    references: Mapping[str, Artifact]
    ranks: Ranks = ALONE
    """The processes that do a training of this stage together."""
    observer: "Observer | None" = None
    """Who looks on while a network is trained."""


@dataclass(frozen=True)
class Stage(ABC):
    """One step of a recipe. Subclasses are decorated with `@stages.register("name")` in their room's `stages.py`.

    Those files stay light: heavy modules are imported inside `__call__`, so that a recipe is checked in the first
    second, before torch is loaded.
    """

    __pydantic_config__ = STRICT

    version: ClassVar[int] = 1
    """Bumped when the meaning of a stage changes, so that no older result is taken for its own."""

    takes: ClassVar[str] = "model"
    """What it is given: "nothing", "model" or "program"; `wants_input` has the last word."""

    gives: ClassVar[str] = "model"
    """What it returns: "model" or "program"."""

    references: ClassVar[tuple[str, ...]] = ()
    """Fields that hold the name of an earlier stage, written `$name`."""

    later: ClassVar[tuple[str, ...]] = ()
    """Fields that came after others had results: at their default they are not in the key, so those results stay."""

    files: ClassVar[tuple[str, ...]] = ()
    """Fields that hold a file whose content, not its path, belongs into the key."""

    @abstractmethod
    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return what this stage makes of `artifact`, which stays untouched."""

    def dry_run(
        self, artifact: Artifact | None, references: Mapping[str, Artifact], data: "Data", seed: int
    ) -> Artifact | None:
        """Return what this stage will give, its weights untrained, or None where that is known only afterwards.

        Runs before any stage of a recipe computes, and raises what is certain to fail then. `artifact` and `references`
        are such artifacts, too, and absent where nothing is known of them.
        """
        return None

    def wants_input(self) -> bool:
        """Return whether this stage, as configured, goes on from an earlier artifact."""
        return self.takes != "nothing"

    def smoke(self) -> Self:
        """Return this stage shrunk to a trial of a few seconds."""
        return self

    def check(self) -> list[str]:
        """Return what is wrong with the fields beyond their types; runs before anything is computed."""
        return []


def _rooms() -> tuple[str, ...]:
    rooms = ("models", "train", "prune", "factorize", "quantize", "search", "chain", "export")
    here = Path(__file__).parent.parent
    return tuple(f"edgepress.{room}.stages" for room in rooms if (here / room / "stages.py").exists())


stages: Registry[type[Stage]] = Registry("stage", _rooms())
