"""Generated images for segmentation: circles, squares and triangles on a textured ground, with their class maps."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit, check_limits, shrink
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.cache import digest

VOID = 255
"""The value of pixels that do not count: the outline of each shape, where neither answer is wrong."""

_LABELS = ("ground", "circle", "square", "triangle")

Mask = NDArray[np.bool_]


@datasets.register("shapes")
@dataclass(frozen=True)
class Shapes(DataSource):
    """One to three shapes per image of `size` x `size` pixels; the outline of a shape, one pixel wide, is void."""

    size: int = 48
    train: int = 600
    val: int = 100
    test: int = 200
    seed: int = 0
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_limits(min(self.val, self.test, self.train), self.limit, self.limit_eval)
        if self.size < 16:
            raise ValueError(f"shapes need at least 16 pixels, got size {self.size}")

    def load(self) -> Data:
        """Generate the data set."""
        train, val, test = (
            self._generate(count, number) for number, count in enumerate((self.train, self.val, self.test))
        )
        return Data(
            name="shapes",
            task="segmentation",
            labels=_LABELS,
            input=InputSpec(self.size, self.size, mean=(0.5,) * 3, std=(0.25,) * 3),
            train=shrink(train, self.limit, self.seed),
            val=shrink(val, self.limit_eval, self.seed),
            test=shrink(test, self.limit_eval, self.seed),
            fingerprint=digest("shapes", train.digest(), val.digest(), test.digest(), self.limit, self.limit_eval),
        )

    def _generate(self, count: int, number: int) -> ArraySplit:
        rng = np.random.default_rng([self.seed, number])
        images = np.empty((count, self.size, self.size, 3), np.uint8)
        maps = np.empty((count, self.size, self.size), np.int64)
        for index in range(count):
            images[index], maps[index] = _draw(rng, self.size)
        return ArraySplit(images, maps)


def _draw(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return one image `(size, size, 3)` and its class map `(size, size)`."""
    y, x = np.mgrid[:size, :size].astype(np.float64)
    ground = rng.uniform(0.2, 0.8, 3)
    waves = np.sin(x * rng.uniform(0.2, 0.8) + rng.uniform(0, 6)) * np.sin(
        y * rng.uniform(0.2, 0.8) + rng.uniform(0, 6)
    )
    image = ground + 0.08 * waves[..., None]
    target = np.zeros((size, size), np.int64)
    for _ in range(rng.integers(1, 4)):
        kind = int(rng.integers(1, len(_LABELS)))
        radius = rng.uniform(0.12, 0.25) * size
        center_x, center_y = rng.uniform(0.2, 0.8, 2) * size
        inside = _shape(kind, x - center_x, y - center_y, radius)
        image[inside] = (ground + rng.choice((-1, 1), 3) * rng.uniform(0.25, 0.5, 3)) % 1.0
        target[inside] = kind
        target[inside & ~_eroded(inside)] = VOID
    image += rng.normal(0, 0.04, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), target


def _shape(kind: int, x: NDArray[np.float64], y: NDArray[np.float64], radius: float) -> Mask:
    if kind == 1:
        return x * x + y * y < radius * radius
    if kind == 2:
        return np.maximum(np.abs(x), np.abs(y)) < 0.85 * radius
    return (y < 0.8 * radius) & (y > 2 * np.abs(x) - radius)


def _eroded(mask: Mask) -> Mask:
    """Return the pixels of `mask` whose four neighbors belong to it too; outside the image counts as belonging."""
    padded = np.pad(mask, 1, constant_values=True)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
