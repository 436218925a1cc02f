"""How training images are varied. Light: the recipe check reads it without torch."""

from dataclasses import dataclass

from edgepress.core.config import STRICT


@dataclass(frozen=True)
class Augment:
    """What is done to a training image. `pad` and `cutout` are in pixels, `mixup` is the alpha of its Beta law.

    `flip` mirrors every image in every other view rather than by a coin toss, so that two views show both sides
    (the alternating flip of airbench, Jordan 2024). `pad` is a random crop from the image padded by reflection.
    `cutout` blanks a square (DeVries and Taylor, 2017). `mixup` blends pairs (Zhang et al., 2018).
    """

    __pydantic_config__ = STRICT

    flip: bool = True
    pad: int = 4
    cutout: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if self.pad < 0 or self.cutout < 0 or self.mixup < 0:
            raise ValueError("pad, cutout and mixup cannot be negative")


PLAIN = Augment(flip=False, pad=0)
