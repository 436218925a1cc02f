"""How well the outlines of a class map lie: the boundary F-score. numpy only."""

import math

import numpy as np
from numpy.typing import NDArray

from edgepress.tasks.cross_entropy import VOID

TOLERANCE = 0.0075
"""How far an outline may be off and still count as found: a share of the image's diagonal."""

Maps = NDArray[np.integer]
Mask = NDArray[np.bool_]


class BoundaryMeter:
    """The boundary F-score: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.

    A pixel of a class lies on its outline where a neighbor (of four) belongs to another class. Precision is the share
    of the given outline that lies within `TOLERANCE` of the true one, recall the share of the true one within it of
    the given; the score of a class is the mean over images, in which it occurs, of their harmonic mean. Void pixels and
    the outlines against them do not count.
    """

    def __init__(self, classes: int) -> None:
        self._sums, self._counts = np.zeros(classes), np.zeros(classes, np.int64)

    def update(self, decided: Maps, targets: Maps) -> None:
        """Add class maps `(N, height, width)` of a network and the true ones."""
        for ours, true in zip(decided, targets, strict=True):
            self._image(ours, true)

    def result(self) -> dict[str, float]:
        """Return `boundary_f`, the mean over the classes that occur, in percent; 0 where none does."""
        found = self._counts > 0
        return {"boundary_f": 100 * float((self._sums[found] / self._counts[found]).mean()) if found.any() else 0.0}

    def _image(self, decided: Maps, true: Maps) -> None:
        radius = max(1, round(TOLERANCE * math.hypot(*true.shape)))
        valid = true != VOID
        outline_true, outline_ours = (outline(x, valid) for x in (true, decided))
        for k in np.unique(true[valid]):
            wanted, given = outline_true & (true == k), outline_ours & (decided == k)
            self._counts[k] += 1
            if not wanted.any() and not given.any():
                self._sums[k] += 1  # the class fills the image, and the network says so
                continue
            hits = np.count_nonzero(given & grown(wanted, radius)), np.count_nonzero(wanted & grown(given, radius))
            shares = [hit / max(np.count_nonzero(x), 1) for hit, x in zip(hits, (given, wanted), strict=True)]
            self._sums[k] += 2 * shares[0] * shares[1] / max(sum(shares), 1e-12)


def outline(classes: Maps, valid: Mask) -> Mask:
    """Return which pixels have a neighbor (of four) of another class, where both are `valid`."""
    found = np.zeros(classes.shape, bool)
    for axis in (0, 1):
        before, after = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
        change = (classes[before] != classes[after]) & valid[before] & valid[after]
        found[before] |= change
        found[after] |= change
    return found


def grown(mask: Mask, radius: int) -> Mask:
    """Return the pixels within `radius` of a pixel of `mask`."""
    height, width = mask.shape
    result = np.zeros_like(mask)
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            if down * down + across * across <= radius * radius:
                result[max(down, 0) : height + min(down, 0), max(across, 0) : width + min(across, 0)] |= mask[
                    max(-down, 0) : height + min(-down, 0), max(-across, 0) : width + min(-across, 0)
                ]
    return result
