"""A data set as every other room sees it: three splits, labels, an input spec and a fingerprint. Needs numpy only."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Signature, TaskName
from edgepress.core.config import STRICT
from edgepress.core.inputs import InputSpec
from edgepress.core.registry import Registry


class Split(Protocol):
    """One split. Small sets hold all images in memory as uint8; larger ones decode what is asked for."""

    @property
    def resident(self) -> bool:
        """True where `read` costs no decoding, so that the whole split may be moved to the training device at once."""
        ...

    def __len__(self) -> int: ...

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return uint8 images `(n, height, width, channels)` and their targets: class ids `(n,)`, or class maps
        `(n, height, width)` in which 255 means "do not count"."""
        ...


def spread(split: Split, count: int) -> NDArray[np.int64]:
    """Return the indices of `count` images at even distances (of all, where there are fewer): splits of folders are
    sorted by class, and the first images would be those of the first classes."""
    return np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(np.int64)


@dataclass(frozen=True)
class Data:
    """A loaded data set. `fingerprint` identifies content and split, not the path: it enters the keys of stages."""

    name: str
    task: TaskName
    labels: tuple[str, ...]
    input: InputSpec
    train: Split
    val: Split
    test: Split
    fingerprint: str

    @property
    def signature(self) -> Signature:
        """The signature of a network made for this data."""
        return Signature(self.task, self.input, self.labels)

    def calibration(self, count: int, seed: int) -> NDArray[np.uint8]:
        """Return `count` images `(count, height, width, channels)` drawn from the train split only."""
        order = np.random.default_rng(seed).permutation(len(self.train))[:count]
        return self.train.read(np.sort(order))[0]


@dataclass(frozen=True)
class DataSource(ABC):
    """Where a data set comes from: the dataclass behind `data: {name: {...}}` of a recipe."""

    __pydantic_config__ = STRICT

    @abstractmethod
    def load(self) -> Data:
        """Return the data set; raise `DataError` that says what was looked for and where."""

    def available(self) -> str | None:
        """Return None where the data set can be loaded here, else the reason (for `doctor`)."""
        return None


datasets: Registry[type[DataSource]] = Registry("data set", ("edgepress.data.sets",))
