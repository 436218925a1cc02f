"""What is asked of a network: how wrong it is, how good, how much it agrees with another, what its outputs say.

Scores work on numpy outputs, so that one piece of code judges a PyTorch model and an exported file alike, on a machine
without torch. Only `loss` touches tensors, and only through the functions of the tensor's own library.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Outputs = NDArray[np.float32]
Targets = NDArray[np.int64]


class Meter(ABC):
    """Accumulates the scores of a task over batches, in memory that does not grow with the number of images."""

    @abstractmethod
    def update(self, outputs: Outputs, targets: Targets) -> None:
        """Add one batch."""

    @abstractmethod
    def result(self) -> dict[str, float]:
        """Return the scores by name, `top1`, `top5`, `miou` ... in percent."""


class Task(ABC):
    """One kind of question; registered under the name a `Signature` carries."""

    main: str
    """The score that choices are made by ("top1", "miou"); higher is better."""

    @abstractmethod
    def loss(self, outputs: "Tensor", targets: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
        """Return the mean loss of a batch (float32 scalar); void targets (255) do not count."""

    @abstractmethod
    def meter(self, classes: int) -> Meter:
        """Return a fresh meter."""

    @abstractmethod
    def agreement(self, a: Outputs, b: Outputs) -> float:
        """Return the share, in percent, of decisions (images or pixels) on which two outputs agree."""

    @abstractmethod
    def decode(self, outputs: Outputs, labels: tuple[str, ...]) -> list[Any]:
        """Return one plain result per image: labels with scores, or a class map."""


tasks: Registry[Task] = Registry("task", ("edgepress.tasks",))
