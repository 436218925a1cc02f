"""CP: Lebedev et al., "Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition", ICLR 2015. The
alternating least squares are tensorly's."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edgepress.factorize.methods.base import Floats, Method, Ranks, methods
from edgepress.factorize.methods.library import decompositions, from_numpy
from edgepress.factorize.pieces import NONE, ONE, Piece, Whole

ROUNDS = 60
GROWTH = 1.35
"""From one rank that is tried to the next: what a CP decomposition loses is known only once it is computed."""


class CP(Method):
    """A 1x1 convolution, a depthwise one, a 1x1 one, all of `rank` channels.

    The two axes of the kernel stay one: a depthwise k x k convolution loses less at the same rank than k x 1 and 1 x k,
    and one call costs less than two.
    """

    def fits(self, whole: Whole) -> bool:
        return not whole.pointwise

    def unfoldings(self, whole: Whole) -> tuple[Tensor, ...]:
        return whole.weight.flatten(1), whole.weight.transpose(0, 1).flatten(1)

    def full(self, whole: Whole) -> Ranks:
        outputs, inputs, height, width = whole.weight.shape
        kernel = height * width
        return (min(outputs * inputs, outputs * kernel, inputs * kernel),)

    def of_unfoldings(self, counts: Sequence[int]) -> Ranks:
        return (max(counts),)

    def pieces(self, whole: Whole, ranks: Ranks) -> tuple[Piece, ...]:
        [rank] = ranks
        small = {"kernel": ONE, "stride": ONE, "padding": NONE, "dilation": ONE}
        return (
            replace(whole.piece, outputs=rank, bias=False, **small),
            replace(whole.piece, inputs=rank, outputs=rank, groups=rank, bias=False),
            replace(whole.piece, inputs=rank, **small),
        )

    def tensors(self, whole: Whole, ranks: Ranks) -> tuple[Tensor, ...]:
        outputs, inputs, kernel = self._factors(whole, ranks[0])
        size = whole.weight.shape[2:]
        return inputs.T[:, :, None, None], kernel.T.reshape(ranks[0], 1, *size), outputs[:, :, None, None]

    def at_loss(self, whole: Whole, tails: tuple[Floats, ...], loss: float) -> Ranks:
        """Return the first of growing ranks that loses at most `loss`, or one at which nothing is gained anyway."""
        [rank], [full] = super().at_loss(whole, tails, loss), self.full(whole)
        dense = whole.piece.params()
        while rank < full and sum(p.params() for p in self.pieces(whole, (rank,))) < dense:
            if self.loss(whole, tails, (rank,)) <= loss:
                break
            rank = min(max(int(rank * GROWTH), rank + 1), full)
        return (rank,)

    def rungs(self, whole: Whole, tails: tuple[Floats, ...]) -> list[Ranks]:
        """Return ranks up to where nothing is gained: few, as each one is a decomposition."""
        found, rank, [full] = list[Ranks](), 2, self.full(whole)
        while rank < full and sum(p.params() for p in self.pieces(whole, (rank,))) < whole.piece.params():
            found.append((rank,))
            rank = max(int(rank * 1.5), rank + 1)
        return found

    def loss(self, whole: Whole, tails: tuple[Floats, ...], ranks: Ranks) -> float:
        """Return the share of the squared norm that is lost, computed by the decomposition itself."""
        factors = self._factors(whole, ranks[0])
        found = torch.einsum("or,ir,kr->oik", *factors)
        dense = whole.weight.flatten(2)
        return float((dense - found).square().sum() / dense.square().sum().clamp_min(1e-300))

    def _factors(self, whole: Whole, rank: int) -> list[Tensor]:
        """Return outputs, inputs and kernels by rank, of equal norm: numbers of one size train and round best."""
        with decompositions() as library:
            weights, factors = library.parafac(
                whole.weight.flatten(2).numpy(), rank, n_iter_max=ROUNDS, init="svd", tol=1e-6, random_state=0
            )
        found = [from_numpy(factor) for factor in factors]
        found[0] = found[0] * from_numpy(weights)
        norms = [factor.norm(dim=0).clamp_min(1e-30) for factor in found]
        even = (norms[0] * norms[1] * norms[2]) ** (1 / 3)
        return [factor / norm * even for factor, norm in zip(found, norms, strict=True)]


methods.register("cp")(CP())
