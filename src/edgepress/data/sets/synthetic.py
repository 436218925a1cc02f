"""A generated twin of a small classification set: gratings to be told apart by direction and width of their stripes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit, check_limits, shrink
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.cache import digest


@datasets.register("synthetic")
@dataclass(frozen=True)
class Synthetic(DataSource):
    """`classes` kinds of stripes in random phase, color and contrast under noise of `noise` (standard deviation, with
    1.0 the range of a pixel); `size` x `size` pixels, gray with `channels: 1`.

    Even classes have wide stripes and odd ones narrow stripes; the direction turns with every second class.
    A small convolutional net learns it in seconds, a linear one cannot (the phase is random).
    """

    classes: int = 4
    size: int = 32
    channels: Literal[1, 3] = 3
    train: int = 2000
    val: int = 400
    test: int = 400
    noise: float = 0.1
    seed: int = 0
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_limits(self.val, self.limit, self.limit_eval)
        if self.classes < 2 or self.size < 8 or min(self.train, self.val, self.test) < self.classes:
            raise ValueError("it takes 2 classes, 8 pixels and an image of each class in every split")
        if self.noise < 0:
            raise ValueError(f"noise must not be negative, got {self.noise}")

    def load(self) -> Data:
        """Generate the data set."""
        train, val, test = (
            ArraySplit(*self._generate(count, number)) for number, count in enumerate((self.train, self.val, self.test))
        )
        return Data(
            name="synthetic",
            task="classification",
            labels=tuple(f"grating{number}" for number in range(self.classes)),
            input=InputSpec(
                height=self.size,
                width=self.size,
                channels=self.channels,
                mean=(0.5,) * self.channels,
                std=(0.25,) * self.channels,
                color="RGB" if self.channels == 3 else "L",
            ),
            train=shrink(train, self.limit, self.seed),
            val=shrink(val, self.limit_eval, self.seed),
            test=shrink(test, self.limit_eval, self.seed),
            fingerprint=digest("synthetic", train.digest(), val.digest(), test.digest(), self.limit, self.limit_eval),
        )

    def _generate(self, count: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        rng = np.random.default_rng([self.seed, number])
        targets = rng.permutation(np.arange(count) % self.classes)
        directions = (self.classes + 1) // 2
        angle = np.pi * (targets // 2) / directions + rng.uniform(-0.15, 0.15, count) / directions
        waves = np.where(targets % 2 == 0, 2.0, 4.0) * rng.uniform(0.9, 1.1, count)
        y, x = np.mgrid[: self.size, : self.size] / self.size
        across = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
        stripes = np.sin(2 * np.pi * (waves[:, None, None] * across + rng.uniform(0, 1, (count, 1, 1))))
        color = rng.uniform(0.1, 0.35, (count, 1, 1, self.channels)) * rng.choice((-1, 1), (count, 1, 1, self.channels))
        images = rng.uniform(0.4, 0.6, (count, 1, 1, self.channels)) + stripes[..., None] * color
        images += rng.normal(0, self.noise, images.shape)
        return (np.clip(images, 0, 1) * 255).astype(np.uint8), targets.astype(np.int64)
