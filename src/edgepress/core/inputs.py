"""What a network expects at its input: enough to feed it on any machine, without the training code."""

from dataclasses import dataclass
from typing import Literal

from edgepress.core.config import STRICT


@dataclass(frozen=True)
class InputSpec:
    """The input of a network, as the bundle's manifest states it.

    A batch enters as float32 of shape `(N, channels, height, width)`; each channel is `(value / 255 - mean) / std`
    of the 8-bit image. `resize` says how an image of another size is brought to this one:

    - `stretch`: both sides resized at once, bilinear (CIFAR-like sets);
    - `crop`: the shorter side resized to `height / crop`, then a centred crop (the ImageNet evaluation crop).
    """

    __pydantic_config__ = STRICT

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    color: Literal["RGB", "BGR", "L"] = "RGB"
    resize: Literal["stretch", "crop"] = "stretch"
    crop: float = 1.0

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.channels) < 1:
            raise ValueError(f"an input of {self.channels}x{self.height}x{self.width} holds no pixels")
        if (self.channels == 1) != (self.color == "L") or self.channels not in (1, 3):
            raise ValueError(f"{self.channels} channels do not fit color {self.color!r}")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std need {self.channels} values each, got {len(self.mean)} and {len(self.std)}")
        if min(self.std) <= 0 or not 0 < self.crop <= 1:
            raise ValueError("std must be above 0 and crop in (0, 1]")

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(channels, height, width)` of one image."""
        return self.channels, self.height, self.width

    def at_once(self, most: int) -> int:
        """Return how many images a network is given at a time, up to `most`: fewer where they are large, since the
        memory it takes grows with their pixels (500 of 32x32, 11 of 240x180)."""
        return max(1, min(most, 500 * 32 * 32 // (self.height * self.width)))
