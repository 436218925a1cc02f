"""From an image of any size to the pixels a network sees: what `InputSpec.resize` means, in one place; and what both
the data sets and the runtime open images with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edgepress.core.inputs import InputSpec
from edgepress.data.base import Split

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What the content of a file may be. Pillow knows more, some of which start other programs (EPS runs Ghostscript)."""

_LONG = 16  # larger than this many times the pixels kept, an image is not resized as a whole

Box = tuple[float, float, float, float]
"""`(left, top, right, bottom)` in pixels of the source image."""


def fit(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """Return a PIL image of mode "RGB" or "L" as uint8 `(height, width, channels)` of `spec`; bilinear, antialiased."""
    width, height, left, top = _geometry(image.size, spec)
    if width * height <= _LONG * (spec.width / spec.crop) * (spec.height / spec.crop):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + spec.width, top + spec.height))
    else:  # the same, to a unit of the 8 bits, without a giant in between
        image = image.resize((spec.width, spec.height), Image.Resampling.BILINEAR, source_box(image.size, spec))
    pixels = np.asarray(image).reshape(spec.height, spec.width, spec.channels)
    return pixels[:, :, ::-1].copy() if spec.color == "BGR" else pixels


@dataclass(frozen=True, eq=False)
class ResizedSplit:
    """The images of `split` at the size of `spec`, resized as they are read."""

    split: Split
    spec: InputSpec

    @property
    def resident(self) -> bool:
        """False: every reading resizes."""
        return False

    def __len__(self) -> int:
        return len(self.split)

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the resized images and the targets at `indices`, in that order."""
        images, targets = self.split.read(indices)
        shape = (len(images), self.spec.height, self.spec.width, self.spec.channels)
        resized = np.empty(shape, np.uint8)
        for number, image in enumerate(images):
            resized[number] = fit(Image.fromarray(image.squeeze()), self.spec)
        return resized, targets


def upright(image: Image.Image) -> Image.Image:
    """Return `image` turned as its EXIF tag says: itself where that says nothing, for a copy takes as much again."""
    return image if image.getexif().get(0x0112, 1) == 1 else ImageOps.exif_transpose(image)


def source_box(size: tuple[int, int], spec: InputSpec) -> Box:
    """Return the part of an image of `size` (width, height) that the network sees."""
    width, height, left, top = _geometry(size, spec)
    across, down = size[0] / width, size[1] / height
    right, bottom = (left + spec.width) * across, (top + spec.height) * down
    return left * across, top * down, min(right, size[0]), min(bottom, size[1])


def _geometry(size: tuple[int, int], spec: InputSpec) -> tuple[int, int, int, int]:
    """Return the width and height to which an image of `size` is resized, and the left and top of the crop from there.

    For `crop` this is the ImageNet evaluation crop, to the pixel as torchvision does it: resize the shorter side to
    `height / crop`, cut the center. Where the input is not square, the image is resized so as to just cover it.
    """
    if spec.resize == "stretch":
        return spec.width, spec.height, 0, 0
    width, height = size
    inner_width, inner_height = (int(side / spec.crop + 1e-6) for side in (spec.width, spec.height))
    if width * inner_height <= height * inner_width:
        full_width, full_height = inner_width, inner_width * height // width
    else:
        full_width, full_height = inner_height * width // height, inner_height
    return full_width, full_height, round((full_width - spec.width) / 2), round((full_height - spec.height) / 2)
