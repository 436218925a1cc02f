"""Large images through a network of a fixed size: overlapping windows, their outputs averaged."""

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Predictor
from edgepress.core.errors import ConfigError, DataError


class Sliding:
    """Calls `predictor`, a segmentation network, on windows of its own size and joins what it says.

    Neighboring windows share at least `overlap` of their side; the last one ends at the edge of the image. Where
    several cover a pixel, the mean of their logits counts.
    """

    def __init__(self, predictor: Predictor, overlap: float = 0.25) -> None:
        if predictor.signature.task != "segmentation":
            raise ConfigError("windows are for segmentation: a label belongs to an image as a whole")
        if not 0 <= overlap < 1:
            raise ConfigError(f"overlap is a share of the window's side in [0, 1), got {overlap}")
        self.predictor, self.overlap = predictor, overlap

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits `(N, classes, height, width)` for images `(N, height, width, channels)`; raise `DataError`
        where they are smaller than a window."""
        spec = self.predictor.signature.input
        height, width = images.shape[1:3]
        if height < spec.height or width < spec.width:
            raise DataError(
                f"an image of {width}x{height} pixels is smaller than a window of {spec.width}x{spec.height}: enlarge "
                "it, or show it whole"
            )
        sums = np.zeros((len(images), len(self.predictor.signature.labels), height, width), np.float32)
        seen = np.zeros((height, width), np.float32)
        for top in starts(height, spec.height, self.overlap):
            for left in starts(width, spec.width, self.overlap):
                here = (slice(top, top + spec.height), slice(left, left + spec.width))
                sums[:, :, *here] += self.predictor(np.ascontiguousarray(images[:, *here]))
                seen[here] += 1
        return sums / seen


def starts(side: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin so that they cover `side` pixels, evenly spread."""
    most = max(1, int(window * (1 - overlap)))
    count = -(-(side - window) // most) + 1
    return [round(k * (side - window) / max(count - 1, 1)) for k in range(count)]
