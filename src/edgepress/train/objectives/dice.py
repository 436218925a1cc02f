"""Soft Dice loss: overlap, class by class, whatever the size of a class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives
from edgepress.train.objectives.dense import counted

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("dice")
@dataclass(frozen=True)
class Dice(Term):
    """`1 - mean_c (2 * sum(p_c * y_c) + smooth) / (sum(p_c) + sum(y_c) + smooth)` over the classes of the batch.

    Milletari et al., "V-Net", 3DV 2016, with plain sums in the denominator, for several classes: `p` are the softmax
    outputs, `y` the one-hot targets, sums run over all pixels of the batch that are not void, and classes that no
    target of the batch holds do not count. Usually beside cross-entropy. Outputs are `(N, classes, ...)`.
    """

    smooth: float = 1.0

    def __post_init__(self) -> None:
        if self.smooth < 0:
            raise ValueError(f"smooth must be 0 or more, got {self.smooth}")

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        logits, targets = counted(outputs, batch.targets)
        p = logits.softmax(1)
        right = p.gather(1, targets[:, None])[:, 0]
        there = targets.bincount(minlength=p.shape[1]).float()
        overlap = p.new_zeros(p.shape[1]).index_add(0, targets, right)
        scores = (2 * overlap + self.smooth) / (p.sum(0) + there + self.smooth).clamp(min=1e-12)
        present = there > 0
        return ((1 - scores) * present).sum() / present.sum().clamp(min=1)
