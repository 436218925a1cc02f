"""Spatial SVD: Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions" (2014)."""

from dataclasses import replace

from torch import Tensor

from edgepress.factorize.methods.base import Method, Ranks, cut, methods
from edgepress.factorize.pieces import Piece, Whole


class Spatial(Method):
    """A k x 1 convolution to `rank` channels, then a 1 x k one; the optimum of its kind, by one matrix."""

    def fits(self, whole: Whole) -> bool:
        return min(whole.piece.kernel) > 1

    def unfoldings(self, whole: Whole) -> tuple[Tensor, ...]:
        outputs, inputs, height, width = whole.weight.shape
        return (whole.weight.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width),)

    def full(self, whole: Whole) -> Ranks:
        return (min(self.unfoldings(whole)[0].shape),)

    def pieces(self, whole: Whole, ranks: Ranks) -> tuple[Piece, ...]:
        p = whole.piece
        tall = replace(p, outputs=ranks[0], kernel=(p.kernel[0], 1), stride=(p.stride[0], 1), bias=False)
        wide = replace(p, inputs=ranks[0], kernel=(1, p.kernel[1]), stride=(1, p.stride[1]))
        return (
            replace(tall, padding=(p.padding[0], 0), dilation=(p.dilation[0], 1)),
            replace(wide, padding=(0, p.padding[1]), dilation=(1, p.dilation[1])),
        )

    def tensors(self, whole: Whole, ranks: Ranks) -> tuple[Tensor, ...]:
        outputs, inputs, height, width = whole.weight.shape
        tall, wide = cut(self.unfoldings(whole)[0], ranks[0])
        first = tall.reshape(inputs, height, ranks[0]).permute(2, 0, 1)[..., None]
        second = wide.reshape(ranks[0], outputs, width).permute(1, 0, 2)[:, :, None]
        return first, second


methods.register("spatial")(Spatial())
