"""Attention transfer: where the networks look."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, objectives

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("attention")
@dataclass(frozen=True)
class Attention(FeatureTerm):
    """Sum over pairs of `mean((Q_s - Q_t)^2)`: `Q` is the mean over channels of the squared map, flattened, of norm 1.

    Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017 (activation-based, p = 2). Maps
    `(N, C, H, W)` of unequal size are pooled to the smaller; channels may differ and nothing is trained. Weight 1000.
    """

    usual: ClassVar[float] = 1000.0

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return what brings the maps to one size."""
        from edgepress.train.connectors import SameSize

        return SameSize()

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the sum over the pairs of features."""
        each = [(_looks(a) - _looks(b)).square().mean() for a, b in zip(ours, theirs, strict=True)]
        return sum(each[1:], each[0])


def _looks(x: "Tensor") -> "Tensor":
    flat = x.square().mean(1).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)
