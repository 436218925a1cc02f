"""Features before their activation, with a margin below which nothing is asked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.train.objectives.base import Pair


@objectives.register("margin")
@dataclass(frozen=True)
class Margin(FeatureTerm):
    """Mean partial distance of `r(student)` from `max(teacher, m)`: `(t - s)^2`, and 0 where `s <= t <= 0`.

    After Heo et al., "A Comprehensive Overhaul of Feature Distillation" (OFD), ICCV 2019. `m` is, per channel, the mean
    of the teacher's negative values, here that of the batch; `r` is a trained 1x1 convolution with batch normalization.
    Maps `(N, C, H, W)` of unequal size are pooled to the smaller. Meant for features before a ReLU, hence by default
    the last batch normalization of each stage, before a residual block adds to it; after a ReLU the margin is 0. The
    mean is over all numbers and levels. The authors (for CIFAR) take the sum over an image, halve it per level towards
    the shallow ones and multiply by 0.001: on 16, 32 and 64 channels of 32, 16 and 8 pixels a side that is 12 times as
    much, the usual weight here.
    """

    usual: ClassVar[float] = 12.0
    place: ClassVar[Place] = "normalized"

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return one projection with batch normalization per pair."""
        from edgepress.train.connectors import Projections

        return Projections(pairs, normalized=True)

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        each = [_partial(a, _margin_relu(b)) for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)


def _margin_relu(t: "Tensor") -> "Tensor":
    negative = t.clamp(max=0)
    count = (negative < 0).sum((0, 2, 3), keepdim=True).clamp(min=1)
    return t.maximum(negative.sum((0, 2, 3), keepdim=True) / count)


def _partial(s: "Tensor", t: "Tensor") -> "Tensor":
    return (t - s).square().masked_fill((s <= t) & (t <= 0), 0).mean()
