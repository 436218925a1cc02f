"""How often each class occurs in class maps: what weights of classes are made of, and a warning before a training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepress.data.base import Split, spread

MOST_IMAGES = 2000
MOST_DECODED = 300
"""Larger splits are counted on so many images, spread evenly: fewer where each has to be decoded."""

_AT_ONCE = 16


@dataclass(frozen=True)
class Frequencies:
    """Pixels of each class, images that hold it, pixels that are void, and the images and pixels looked at."""

    pixels: tuple[int, ...]
    images: tuple[int, ...]
    void: int
    count: int
    per_image: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each class in all pixels that count, `(classes,)`; they add up to 1."""
        pixels = np.array(self.pixels, np.float64)
        return pixels / max(pixels.sum(), 1)

    def words(self, labels: Sequence[str]) -> str:
        """Return one line: the classes by their share, those that never occur, and the share of void pixels."""
        order = np.argsort(-self.shares, kind="stable").tolist()
        shown = [f"{labels[k]} {100 * self.shares[k]:.2g} %" for k in order if self.pixels[k]]
        never = [str(labels[k]) for k in order if not self.pixels[k]]
        total = sum(self.pixels) + self.void
        return (
            f"classes by their pixels: {', '.join(shown)}"
            + (f"; never: {', '.join(never)}" if never else "")
            + f"; {100 * self.void / max(total, 1):.1f} % of the pixels are void"
        )

    def plain(self, labels: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the percentage of pixels and the number of images by class, for a record."""
        return {
            label: {"pixels_percent": round(100 * float(self.shares[k]), 4), "images": self.images[k]}
            for k, label in enumerate(labels)
        }

    def median_weights(self) -> tuple[float, ...]:
        """Return median-frequency weights: median of the classes' frequencies over the frequency of each, which is
        counted in images that hold it (Eigen and Fergus, ICCV 2015). A class that never occurs weighs 1."""
        there = np.array(self.images, np.float64) * self.per_image
        own = np.array(self.pixels) / np.maximum(there, 1)
        middle = float(np.median(own[own > 0])) if (own > 0).any() else 1.0
        return tuple(middle / float(f) if f > 0 else 1.0 for f in own)

    def log_weights(self) -> tuple[float, ...]:
        """Return `1 / ln(1.02 + share)`, between 1.4 and 50 (Paszke et al., "ENet", 2016). A class that never occurs
        weighs 1."""
        return tuple(float(1 / np.log(1.02 + s)) if s > 0 else 1.0 for s in self.shares)

    def root_weights(self) -> tuple[float, ...]:
        """Return one over the square root of the share, scaled so that the pixels weigh 1 on average."""
        shares = self.shares
        weights = np.where(shares > 0, 1 / np.sqrt(np.maximum(shares, 1e-12)), 0)
        weights = weights / max(float((weights * shares).sum()), 1e-12)
        return tuple(float(w) if s > 0 else 1.0 for w, s in zip(weights, shares, strict=True))


def frequencies(split: Split, classes: int) -> Frequencies:
    """Count the class maps of `split`, `(n, height, width)`; single labels `(n,)` are counted as pixels are."""
    count = min(len(split), MOST_IMAGES if split.resident else MOST_DECODED)
    places = spread(split, count)
    pixels, images = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    void, per_image = 0, 0
    for start in range(0, count, _AT_ONCE):
        maps = split.read(places[start : start + _AT_ONCE])[1].reshape(min(_AT_ONCE, count - start), -1)
        per_image = maps.shape[1]
        for one in maps:
            found = np.bincount(one[(one >= 0) & (one < classes)], minlength=classes)
            pixels += found
            images += found > 0
            void += per_image - int(found.sum())
    return Frequencies(tuple(pixels.tolist()), tuple(images.tolist()), void, count, per_image)
