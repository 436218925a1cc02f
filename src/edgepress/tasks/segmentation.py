"""One label per pixel. Outputs are logits `(N, classes, height, width)`, targets class maps `(N, height, width)`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import ConfigError
from edgepress.tasks.base import Meter, Outputs, Targets, Task, tasks
from edgepress.tasks.cross_entropy import VOID, cross_entropy

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Segments:
    """A class map: uint8 class ids `(height, width)`, 255 where the network saw nothing, and the labels they index."""

    classes: NDArray[np.uint8]
    labels: tuple[str, ...]

    def shares(self) -> dict[str, float]:
        """Return the share of the image, in 0..1, that each label covers."""
        counts = np.bincount(self.classes.ravel(), minlength=VOID + 1)[: len(self.labels)]
        return {label: float(n) / self.classes.size for label, n in zip(self.labels, counts, strict=True)}


class SegmentationMeter(Meter):
    """Scores from a confusion matrix: `miou`, the mean over the classes that occur; `iou_<class>` of each of them; and
    `pixel_accuracy`. A pixel whose outputs are not finite is wrong.
    """

    def __init__(self, classes: int) -> None:
        if classes > VOID:
            raise ConfigError(f"segmentation takes at most {VOID} classes (class maps are uint8), got {classes}")
        self._classes = classes
        self._confusion = np.zeros((classes, classes + 1), np.int64)  # the last column: no valid decision

    def update(self, outputs: Outputs, targets: Targets) -> None:
        """Add one batch."""
        decided = outputs.argmax(axis=1)
        decided[~np.isfinite(outputs).all(axis=1)] = self._classes
        counted = targets != VOID
        cells = targets[counted] * (self._classes + 1) + decided[counted]
        self._confusion += np.bincount(cells, minlength=self._confusion.size).reshape(self._confusion.shape)

    def result(self) -> dict[str, float]:
        """Return `miou`, `pixel_accuracy` and one `iou_<class>` per class that occurs, in percent."""
        hits = np.diagonal(self._confusion)
        union = self._confusion.sum(axis=1) + self._confusion[:, : self._classes].sum(axis=0) - hits
        iou = {k: 100 * float(hits[k]) / float(union[k]) for k in range(self._classes) if union[k]}
        scores = {
            "miou": sum(iou.values()) / max(len(iou), 1),
            "pixel_accuracy": 100 * float(hits.sum()) / max(int(self._confusion.sum()), 1),
        }
        return scores | {f"iou_{k}": value for k, value in iou.items()}


class Segmentation(Task):
    """The task `segmentation`."""

    main = "miou"

    def loss(self, outputs: "Tensor", targets: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
        """Return the mean cross entropy over the pixels that are not void; see `tasks.cross_entropy`."""
        return cross_entropy(outputs, targets, label_smoothing)

    def meter(self, classes: int) -> SegmentationMeter:
        """Return a fresh meter for `classes` classes; raise `ConfigError` above 255."""
        return SegmentationMeter(classes)

    def agreement(self, a: Outputs, b: Outputs) -> float:
        """Return the percentage of pixels on which both outputs put the same class first."""
        return 100 * float((a.argmax(axis=1) == b.argmax(axis=1)).mean()) if len(a) else 100.0

    def decode(self, outputs: Outputs, labels: tuple[str, ...]) -> list[Segments]:
        """Return one `Segments` per image, at the size of the outputs."""
        return [Segments(classes, labels) for classes in outputs.argmax(axis=1).astype(np.uint8)]


tasks.register("segmentation")(Segmentation())
