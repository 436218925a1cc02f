"""A tracker is a frozen dataclass that opens a recorder for one training; the recorder is told of it.

Everything in this folder can be imported without the libraries it speaks to, so that a recipe that names a tracker is
checked in the first second.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.config import STRICT
from edgepress.core.errors import EdgepressError
from edgepress.core.registry import Registry

FAILURES: tuple[type[Exception], ...] = (
    EdgepressError,
    OSError,  # the network, the disk; those of `requests` too
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
)
"""What a tracker's library may raise for reasons of its own, and what must not end a training."""


@dataclass(frozen=True)
class Training:
    """What is told of: the stage `label` of a recipe, its key, the folder for files, and the step it goes on from (0:
    from its beginning). `about` says how it is trained."""

    recipe: str
    label: str
    key: str
    folder: Path
    step: int = 0
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Recorder(ABC):
    """Takes down one training."""

    @abstractmethod
    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Take down numbers by name (`train/loss`, `val/top1`) after step `step`."""

    @abstractmethod
    def image(self, step: int, name: str, image: NDArray[np.uint8], caption: str) -> None:
        """Take down an image `(height, width, 3)`."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""


@dataclass(frozen=True)
class Tracker(ABC):
    """A kind of record; subclasses are decorated with `@trackers.register("name")`, one file each."""

    __pydantic_config__ = STRICT

    @abstractmethod
    def open(self, training: Training) -> Recorder:
        """Return a recorder. What an earlier one took down of later steps than `training.step` counts no more."""

    def failures(self) -> tuple[type[Exception], ...]:
        """Return the errors that end this record and not the training."""
        return FAILURES


trackers: Registry[type[Tracker]] = Registry("tracker", ("edgepress.train.trackers",))
