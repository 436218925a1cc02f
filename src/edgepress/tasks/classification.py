"""One label per image. Outputs are logits `(N, classes)`, targets class ids `(N,)`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.tasks.base import Meter, Outputs, Targets, Task, tasks
from edgepress.tasks.cross_entropy import cross_entropy, void_of

if TYPE_CHECKING:
    from torch import Tensor

TOP = 5
BINS = 15


@dataclass(frozen=True)
class Prediction:
    """What a network sees in one image: the best label, its probability, and the best five with theirs."""

    label: str
    score: float
    top: tuple[tuple[str, float], ...]


class ClassificationMeter(Meter):
    """`top1`, `top5` (where there are more than five classes) and `ece`, the expected calibration error over 15 bins of
    confidence (Guo et al. 2017, https://arxiv.org/abs/1706.04599). An image whose outputs are not finite is wrong, with
    full confidence: a broken network must not score.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._count = 0
        self._hits = np.zeros(TOP, np.int64)  # images whose class is among the best k + 1
        self._correct = np.zeros(BINS)
        self._confidence = np.zeros(BINS)

    def update(self, outputs: Outputs, targets: Targets) -> None:
        """Add one batch."""
        counted = targets != void_of(self._classes)
        outputs, targets = outputs[counted], targets[counted]
        finite = np.logical_and.reduce(np.isfinite(outputs), axis=1)
        outputs = np.where(finite[:, None], outputs, 0)

        rank = _rank(outputs, targets)
        rank[~finite] = self._classes
        confidence = softmax(outputs).max(axis=1)
        confidence[~finite] = 1.0

        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self._count += len(targets)
        self._hits += [(rank <= k).sum() for k in range(TOP)]
        self._correct += np.bincount(bins, rank == 0, BINS)
        self._confidence += np.bincount(bins, confidence, BINS)

    def result(self) -> dict[str, float]:
        """Return `top1`, `top5` and `ece` in percent."""
        count = max(self._count, 1)
        scores = {"top1": 100 * float(self._hits[0]) / count}
        if self._classes > TOP:
            scores["top5"] = 100 * float(self._hits[TOP - 1]) / count
        scores["ece"] = 100 * float(np.abs(self._correct - self._confidence).sum()) / count
        return scores


class Classification(Task):
    """The task `classification`."""

    main = "top1"

    def loss(self, outputs: "Tensor", targets: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
        """Return the mean cross entropy; see `tasks.cross_entropy`."""
        return cross_entropy(outputs, targets, label_smoothing)

    def meter(self, classes: int) -> ClassificationMeter:
        """Return a fresh meter for `classes` classes."""
        return ClassificationMeter(classes)

    def agreement(self, a: Outputs, b: Outputs) -> float:
        """Return the percentage of images for which both outputs put the same class first."""
        return 100 * float((a.argmax(axis=1) == b.argmax(axis=1)).mean()) if len(a) else 100.0

    def decode(self, outputs: Outputs, labels: tuple[str, ...]) -> list[Prediction]:
        """Return one `Prediction` per image."""
        scores = softmax(outputs)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
        return [_prediction(row, order, labels) for row, order in zip(scores, best, strict=True)]


def softmax(logits: Outputs) -> Outputs:
    """Return probabilities along axis 1, without overflow for any finite logits."""
    wide = logits.astype(np.float64)  # the difference of two float32 may overflow
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def _rank(outputs: Outputs, targets: Targets) -> NDArray[np.int64]:
    """Return how many classes come before the right one; of equal outputs the first counts, as for `argmax`."""
    right = np.take_along_axis(outputs, targets[:, None], axis=1)
    earlier = np.arange(outputs.shape[1]) < targets[:, None]
    return ((outputs > right) | ((outputs == right) & earlier)).sum(axis=1)


def _prediction(scores: NDArray[np.float32], order: NDArray[np.int64], labels: tuple[str, ...]) -> Prediction:
    top = tuple((labels[int(k)], float(scores[k])) for k in order)
    return Prediction(*top[0], top)


tasks.register("classification")(Classification())
