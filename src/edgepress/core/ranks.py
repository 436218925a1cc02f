"""The processes that do one training together, as stages and the loop see them. Alone, nothing here costs anything.

Each process ("rank") runs the network forward and backward on its share of every batch. What a loss is computed from
is then gathered, so that every process computes the loss of the whole batch: whatever a loss compares (images with one
another, void pixels, the rows of a class), it is that of one process. `train/distributed.py` holds the real group.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, device

T = TypeVar("T")


class Ranks:
    """One process, alone: it is the main one, its share is everything, and there is nobody to wait for."""

    index: int = 0
    """The number of this process, from 0."""
    count: int = 1
    """How many processes there are."""

    @property
    def main(self) -> bool:
        """True in the one process that writes files and speaks."""
        return self.index == 0

    @property
    def device(self) -> "device | None":
        """Return the device of this process, None where it may choose."""
        return None

    def agreed(self, make: Callable[[], T]) -> T:
        """Return what `make` returns in the main process (plain values), which alone calls it."""
        return make()

    def wait(self) -> None:
        """Wait until every process has come here."""

    def main_first(self) -> AbstractContextManager[None]:
        """Let the main process do the block before the others do it, who then find what it has written."""
        return contextlib.nullcontext()

    def share(self, rows: "Tensor") -> "Tensor":
        """Return this process's part of what has one row for each image of a batch."""
        return rows

    def gather(self, rows: "Tensor", total: int) -> "Tensor":
        """Return the rows of all processes, `total` of them; the gradient of its own rows comes back to each."""
        return rows

    def add(self, tensors: "Iterable[Tensor]") -> None:
        """Add up each tensor over all processes, in place."""

    def align(self, tensors: "Iterable[Tensor]") -> None:
        """Give every process the main one's values, in place."""

    def whole_batch(self, total: int) -> AbstractContextManager[None]:
        """Let a network in the block normalize, and drop out, as if it saw all `total` images of the batch."""
        return contextlib.nullcontext()


ALONE = Ranks()


def processes_started() -> int:
    """Return how many processes a launcher (`accelerate launch`, torchrun, `--processes`) has started; 1: none has."""
    given = os.environ.get("WORLD_SIZE", "1")
    return int(given) if given.isdecimal() and "RANK" in os.environ else 1
