"""Cross-entropy in which rare classes count more."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from edgepress.train.objectives.base import Term, objectives
from edgepress.train.objectives.dense import Weights, at, counted, own_losses, weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.data.base import Data
    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("weighted_ce")
@dataclass(frozen=True)
class WeightedCE(Term):
    """`sum(w[y] * CE) / sum(w[y])` over the pixels (or images) that are not void.

    `by` says how the weights come from the shares of the classes in the training pixels: `median` frequency over the
    class's own (Eigen and Fergus, ICCV 2015), `log`, which is `1 / ln(1.02 + share)` (ENet, Paszke et al., 2016), or
    `root`, one over the square root. `weights` gives them instead, one per class. Outputs are `(N, classes, ...)`.
    """

    by: Weights = "median"
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(weight < 0 for weight in self.weights) or (self.weights and not sum(self.weights) > 0):
            raise ValueError(f"weights are 0 or more, and not all 0, got {list(self.weights)}")

    def informed(self, data: "Data") -> Self:
        """Return this loss with the weights of the classes of `data`."""
        return self if self.weights else replace(self, weights=weights_of(self.by, data))

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        logits, targets = counted(outputs, batch.targets)
        weights = at(self.weights, targets)
        return (weights * own_losses(logits, targets)).sum() / weights.sum().clamp(min=1e-12)
