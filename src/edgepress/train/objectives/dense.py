"""What the losses against class maps share: the pixels that count, and weights of classes from the data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from edgepress.tasks.cross_entropy import void_of
from edgepress.train.objectives.rows import rows

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.data.base import Data

Weights = Literal["none", "median", "log", "root"]
"""How classes are weighted by their share of the training pixels: see `data.frequency.Frequencies`."""


def counted(outputs: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return logits `(n, classes)` and class ids `(n,)` of the images or pixels that are not void, float32."""
    logits, flat = rows(outputs), targets.flatten()
    kept = flat != void_of(logits.shape[1])
    return logits[kept], flat[kept]


def own_losses(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Return the cross-entropy of every row, `(n,)`."""
    return -logits.log_softmax(1).gather(1, targets[:, None])[:, 0]


def weights_of(kind: Weights, data: "Data") -> tuple[float, ...]:
    """Return the weight of each class of `data`, () for none."""
    from edgepress.data.frequency import frequencies

    if kind == "none":
        return ()
    found = frequencies(data.train, len(data.labels))
    return {"median": found.median_weights, "log": found.log_weights, "root": found.root_weights}[kind]()


def at(weights: Sequence[float], targets: "Tensor") -> "Tensor":
    """Return the weight of every target, float32; 1 where there are none."""
    if not weights:
        return targets.new_ones(targets.shape).float()
    return targets.new_zeros(0).float().new_tensor(list(weights))[targets]
