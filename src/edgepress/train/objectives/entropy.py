"""A reward for outputs that stay uncertain: teachers whose soft labels carry more."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import Term, objectives
from edgepress.train.objectives.dense import counted
from edgepress.train.objectives.rows import mean

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("entropy")
@dataclass(frozen=True)
class Entropy(Term):
    """`-H(softmax(outputs))`, minus the entropy in nats, mean over images, or pixels that are not void; so the loss may
    be negative.

    Pereyra et al., "Regularizing Neural Networks by Penalizing Confident Output Distributions", 2017: cross-entropy
    minus `beta` times the entropy, where `beta` is the weight of this term (0.1 as they use it). A network trained so
    is a teacher whose wrong classes are still ordered. Usable by `train`. Outputs are `(N, classes)` or `(N, classes,
    H, W)`.
    """

    usual: ClassVar[float] = 0.1

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        logits, _ = counted(outputs, batch.targets)
        log = logits.log_softmax(1)
        return mean((log.exp() * log).sum(1))
