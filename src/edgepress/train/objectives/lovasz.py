"""Lovasz-softmax: a surrogate of one minus the IoU itself."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.train.objectives.base import Term, objectives
from edgepress.train.objectives.dense import counted

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("lovasz")
@dataclass(frozen=True)
class Lovasz(Term):
    """The mean over the classes of the batch of the Lovasz extension of the Jaccard loss, at the errors `|y_c - p_c|`.

    Berman, Triki and Blaschko, "The Lovasz-Softmax Loss", CVPR 2018. The errors of a class are sorted, so a step costs
    more than one of cross-entropy: `pixels` is the most that a batch is thinned to, evenly (0: all). Void pixels do not
    count. Outputs are `(N, classes, ...)`.
    """

    pixels: int = 100_000

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise ValueError(f"pixels must be 0 or more, got {self.pixels}")

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        logits, targets = counted(outputs, batch.targets)
        if self.pixels and len(targets) > self.pixels:
            step = -(-len(targets) // self.pixels)
            logits, targets = logits[::step], targets[::step]
        p = logits.softmax(1)
        present = targets.unique().tolist()
        losses = [_class_loss(p[:, k], targets == k) for k in present]
        return sum(losses[1:], losses[0]) / len(losses) if losses else logits.sum()


def _class_loss(p: "Tensor", there: "Tensor") -> "Tensor":
    errors, order = (there.float() - p).abs().sort(descending=True)
    return errors @ _slopes(there[order].float())


def _slopes(there: "Tensor") -> "Tensor":
    """Return the gradient of the Lovasz extension: by how much each error, in this order, makes the IoU smaller."""
    total = there.sum()
    intersection = total - there.cumsum(0)
    union = total + (1 - there).cumsum(0)
    jaccard = 1 - intersection / union
    return jaccard.diff(prepend=jaccard.new_zeros(1))
