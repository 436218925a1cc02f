"""Two factors for linear layers and 1x1 convolutions: the truncated singular value decomposition (Eckart and Young)."""

from dataclasses import replace

from torch import Tensor

from edgepress.factorize.methods.base import Method, Ranks, cut, methods
from edgepress.factorize.pieces import NONE, ONE, Piece, Whole


class SVD(Method):
    """`W = A B`: the optimal approximation of that rank. The first factor takes the stride, so the second does less."""

    def fits(self, whole: Whole) -> bool:
        return whole.pointwise

    def unfoldings(self, whole: Whole) -> tuple[Tensor, ...]:
        return (whole.weight[:, :, 0, 0],)

    def full(self, whole: Whole) -> Ranks:
        return (min(whole.piece.inputs, whole.piece.outputs),)

    def pieces(self, whole: Whole, ranks: Ranks) -> tuple[Piece, ...]:
        first = replace(whole.piece, outputs=ranks[0], bias=False)
        return first, replace(whole.piece, inputs=ranks[0], stride=ONE, padding=NONE, dilation=ONE)

    def tensors(self, whole: Whole, ranks: Ranks) -> tuple[Tensor, ...]:
        second, first = cut(whole.weight[:, :, 0, 0], ranks[0])
        if whole.piece.kind == "linear":
            return first, second
        return first[:, :, None, None], second[:, :, None, None]


methods.register("svd")(SVD())
