"""The door to tensorly: with a word about the extra where it is absent, and without its chatter."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from edgepress.core.errors import MissingExtraError


@contextlib.contextmanager
def decompositions() -> Iterator[Any]:
    """Yield `tensorly.decomposition`, on numpy arrays within the block, whatever backend is chosen elsewhere.

    Its warnings pass unseen: of ranks above the size of a mode, which are meant, and of slow convergence, which the
    measured error shows.
    """
    try:
        import tensorly.decomposition
        from tensorly import backend_context  # pyright: ignore[reportAttributeAccessIssue]  (made at run time)
    except ModuleNotFoundError:
        raise MissingExtraError("Tucker and CP decompositions (tensorly)", "train") from None
    with warnings.catch_warnings(), backend_context("numpy"):
        warnings.simplefilter("ignore")
        yield tensorly.decomposition


def from_numpy(array: Any) -> Tensor:
    """Return an array of tensorly's as a tensor of its own memory."""
    return torch.tensor(array, dtype=torch.float64)
