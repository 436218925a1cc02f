"""Tucker-2: Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications",
ICLR 2016. The higher-order orthogonal iteration is tensorly's."""

from dataclasses import replace

from torch import Tensor

from edgepress.factorize.methods.base import Method, Ranks, methods
from edgepress.factorize.methods.library import decompositions, from_numpy
from edgepress.factorize.pieces import NONE, ONE, Piece, Whole

ROUNDS = 20


class Tucker(Method):
    """A 1x1 convolution to fewer inputs, the kernel between fewer channels, a 1x1 convolution to all outputs.

    `ranks` are (outputs, inputs) of the kernel in the middle.
    """

    def fits(self, whole: Whole) -> bool:
        return not whole.pointwise

    def unfoldings(self, whole: Whole) -> tuple[Tensor, ...]:
        return whole.weight.flatten(1), whole.weight.transpose(0, 1).flatten(1)

    def full(self, whole: Whole) -> Ranks:
        return tuple(min(matrix.shape) for matrix in self.unfoldings(whole))

    def pieces(self, whole: Whole, ranks: Ranks) -> tuple[Piece, ...]:
        outputs, inputs = ranks
        small = {"kernel": ONE, "stride": ONE, "padding": NONE, "dilation": ONE}
        return (
            replace(whole.piece, outputs=inputs, bias=False, **small),
            replace(whole.piece, inputs=inputs, outputs=outputs, bias=False),
            replace(whole.piece, inputs=outputs, **small),
        )

    def tensors(self, whole: Whole, ranks: Ranks) -> tuple[Tensor, ...]:
        with decompositions() as library:
            (core, factors), _ = library.partial_tucker(
                whole.weight.numpy(), rank=list(ranks), modes=[0, 1], init="svd", n_iter_max=ROUNDS
            )
        outputs, inputs = (from_numpy(factor) for factor in factors)
        return inputs.T[:, :, None, None], from_numpy(core), outputs[:, :, None, None]


methods.register("tucker")(Tucker())
