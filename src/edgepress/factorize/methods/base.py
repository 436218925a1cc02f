"""A decomposition: which layers it fits, what its factors look like at given ranks, and their numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgepress.core.registry import Registry
from edgepress.factorize.pieces import Piece, Whole

Ranks = tuple[int, ...]
Floats = NDArray[np.float64]

STEP = 0.72
LOSSES = tuple(0.7 * STEP**step for step in range(24))
"""Shares of the squared norm that the finer choices of a layer lose: from 0.7 to 0.0004."""


class Method(ABC):
    """One decomposition; it has no state. Subclasses are decorated with `@methods.register("name")`."""

    @abstractmethod
    def fits(self, whole: Whole) -> bool:
        """Return whether it has something to do with a layer of this kind."""

    @abstractmethod
    def unfoldings(self, whole: Whole) -> tuple[Tensor, ...]:
        """Return the matrices whose ranks are reduced."""

    @abstractmethod
    def full(self, whole: Whole) -> Ranks:
        """Return the ranks at which nothing is lost."""

    @abstractmethod
    def pieces(self, whole: Whole, ranks: Ranks) -> tuple[Piece, ...]:
        """Return the structure of the factors."""

    @abstractmethod
    def tensors(self, whole: Whole, ranks: Ranks) -> tuple[Tensor, ...]:
        """Return the weights of the factors in float64, in the shapes of the layers of `pieces`."""

    def of_unfoldings(self, counts: Sequence[int]) -> Ranks:
        """Return the ranks where so many directions of each unfolding are to be kept."""
        return tuple(counts)

    def tails(self, whole: Whole) -> tuple[Floats, ...]:
        """Return, for each unfolding, the share of the squared norm that is lost when 0, 1, 2 ... directions stay."""
        return tuple(_tail(matrix) for matrix in self.unfoldings(whole))

    def at_loss(self, whole: Whole, tails: tuple[Floats, ...], loss: float) -> Ranks:
        """Return small ranks that lose at most `loss` of the squared norm, shared out evenly over the unfoldings."""
        return self.of_unfoldings([max(int(np.argmax(t <= loss / len(tails) + 1e-12)), 1) for t in tails])

    def rungs(self, whole: Whole, tails: tuple[Floats, ...]) -> list[Ranks]:
        """Return ranks from coarse to fine that a budget may choose from.

        The coarsest are by rank, down to 1: most of the norm of a large layer may be noise that training has left in it
        (see AlexNet in LOG.md), and then it says nothing of how few directions do.
        """
        found = [self.at_loss(whole, tails, loss) for loss in LOSSES]
        while max(found[0]) > 1:
            found.insert(0, tuple(max(int(rank * STEP), 1) for rank in found[0]))
        return found

    def loss(self, whole: Whole, tails: tuple[Floats, ...], ranks: Ranks) -> float:
        """Return an estimate of the share of the squared norm that is lost; mostly an upper bound."""
        return min(float(sum(t[min(r, len(t) - 1)] for t, r in zip(tails, ranks, strict=True))), 1.0)


methods: Registry[Method] = Registry("factorization", ("edgepress.factorize.methods",))


def _tail(matrix: Tensor) -> Floats:
    # From the smaller Gram matrix: its eigenvalues are the squares, and an unfolding may have 4608 columns.
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    squares = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).numpy()
    total = float(squares.sum()) or 1.0
    kept = np.concatenate(([0.0], squares.cumsum()))
    return np.maximum(kept[-1] - kept, 0) / total


def cut(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the best `rank` approximation of a matrix as `(rows, rank)` and `(rank, columns)`, evenly scaled.

    By the eigenvectors of the smaller Gram matrix: of 4096 x 4096 a third of the time of a singular value
    decomposition, and the projection onto them is exact whatever their eigenvalues.
    """
    if matrix.shape[0] < matrix.shape[1]:
        second, first = cut(matrix.T, rank)
        return first.T, second.T
    directions = torch.linalg.eigh(matrix.T @ matrix).eigenvectors[:, -rank:].flip(1)
    projected = matrix @ directions
    root = projected.norm(dim=0).clamp_min(1e-30).sqrt()
    return projected / root, root[:, None] * directions.T
