"""How training images are varied. Light: the recipe check reads it without torch."""

from dataclasses import asdict, dataclass
from typing import Any

from edgepress.core.config import STRICT


@dataclass(frozen=True)
class Augment:
    """What is done to a training image. `pad` and `cutout` are in pixels, `mixup` is the alpha of its Beta law.

    `flip` mirrors every image in every other view rather than by a coin toss, so that two views show both sides
    (the alternating flip of airbench, Jordan 2024). `pad` is a random crop from the image padded by reflection.
    `cutout` blanks a square (DeVries and Taylor, 2017). `mixup` blends pairs (Zhang et al., 2018).

    For images with class maps: `scale` is the range of a random zoom, `crop` (height, width) what is cut out at a
    random place (the size of the image by default). With either, `pad` lets that place reach so far beyond the image,
    where pixels are mirrored and void. `color` is the largest relative change of brightness, contrast and saturation.
    """

    __pydantic_config__ = STRICT

    flip: bool = True
    pad: int = 4
    cutout: int = 0
    mixup: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    color: float = 0.0

    def __post_init__(self) -> None:
        if self.pad < 0 or self.cutout < 0 or self.mixup < 0:
            raise ValueError("pad, cutout and mixup cannot be negative")
        if not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise ValueError(f"scale is a range within 0.1 to 10, smallest first, got {list(self.scale)}")
        if self.crop is not None and min(self.crop) < 1:
            raise ValueError(f"crop is (height, width) in pixels, got {list(self.crop)}")
        if not 0 <= self.color < 1:
            raise ValueError(f"color is a relative change in [0, 1), got {self.color}")

    @property
    def warps(self) -> bool:
        """True where images are zoomed or cropped."""
        return self.scale != (1.0, 1.0) or self.crop is not None

    def facts(self) -> dict[str, Any]:
        """Return the fields as plain values, those that came later only where they are set: old names stay valid."""
        later = {"scale": (1.0, 1.0), "crop": None, "color": 0.0}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}


PLAIN = Augment(flip=False, pad=0)
