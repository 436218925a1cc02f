"""What goes along with the batches of a training: a teacher, a peer. The base class does nothing."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from edgepress.core.ranks import ALONE, Ranks
from edgepress.train.loader import Batch
from edgepress.train.precision import Mode


class Companion:
    """Gives the objective what it needs beside images and targets, and may learn along.

    The loop calls `attached` around the whole training, `prepare` before each epoch, draws the batches through `attend`
    and calls `follow` at the end of each step. What `state_dict` returns is part of the checkpoint.

    Of several processes each calls `attend` with its share of a batch, and everything after it with the whole batch.
    """

    ranks: Ranks = ALONE
    """The processes of the training; set by the loop."""
    moves = False
    """True where `attend` changes what is saved: a training that is stopped in it falls back to the last state."""

    @property
    def trained(self) -> nn.Module | None:
        """What the optimizer of the training moves together with the network, and nobody keeps."""
        return None

    def attached(self, mode: Mode) -> AbstractContextManager[object]:
        """Hold what the training needs in place for the block; `mode` is the arithmetic it is done in."""
        return contextlib.nullcontext()

    def prepare(self, epoch: int) -> None:
        """Do what takes long before `epoch` begins."""

    def attend(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches with what the objective needs beside images and targets."""
        yield from batches

    def follow(self, batch: Batch, outputs: Tensor, lr: float) -> None:
        """Learn from a step that the network has just done at the rate `lr`; `outputs` are its detached outputs."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs: nested dicts of tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
