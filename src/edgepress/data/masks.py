"""From the file of a mask to a class map: ids, palette indices or colors, brought to the size a network sees.

Inside edgepress a class map is uint8, a class per pixel, 255 where a pixel does not count (void).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgepress.core.inputs import InputSpec
from edgepress.data.images import BROKEN, MOST_PIXELS, BadImageError
from edgepress.data.resize import FORMATS, source_box, upright

VOID = 255
"""The class of pixels that do not count."""

IDS, COLORS = 1 << 16, 1 << 24
"""How many different pixels a mask of ids, or of colors, can hold."""

_ID_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class Coding:
    """What the pixels of a mask mean: `classes` maps an id, or a color as `red << 16 | green << 8 | blue`, to a class
    or to 255 (void). Pixels it does not name are unknown."""

    labels: tuple[str, ...]
    classes: Mapping[int, int]
    colored: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.labels) <= VOID:
            raise ValueError(f"a class map (uint8) holds 1 to {VOID} classes, got {len(self.labels)}")

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """The class of every possible pixel; unknown ones are void."""
        table = np.full(COLORS if self.colored else IDS, VOID, np.uint8)
        table[list(self.classes)] = list(self.classes.values())
        return table

    def words(self, code: int) -> str:
        """Return how a pixel is written for people: `17`, or `#8040ff`."""
        return f"#{code:06x}" if self.colored else str(code)


def consecutive(labels: tuple[str, ...], void: tuple[int, ...] = (VOID,)) -> Coding:
    """Return the coding in which class k has the id k, and the ids `void` do not count."""
    return Coding(labels, {**{k: k for k in range(len(labels))}, **dict.fromkeys(void, VOID)})


def open_mask(source: Path, colored: bool = False) -> Image.Image:
    """Return the mask upright.

    Raises `BadImageError` where it is damaged, too large, or holds colors in place of ids (or ids in place of colors).
    """
    mask = _decoded(source)
    if colored:
        return mask.convert("RGB")
    if mask.mode not in _ID_MODES:
        raise BadImageError(f"holds colors (mode {mask.mode!r}), not ids: say which color is which class")
    return mask


def check_mask(source: bytes) -> str | None:
    """Return what is wrong with an encoded mask, whatever its pixels mean."""
    try:
        _decoded(io.BytesIO(source))
    except BadImageError as error:
        return str(error)
    return None


def _decoded(source: Path | io.BytesIO) -> Image.Image:
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadImageError(f"has {image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
            mask = upright(image)
            mask.load()
    except BROKEN as error:
        raise BadImageError(f"cannot be decoded ({type(error).__name__}: {error})") from error
    return mask


def codes_of(mask: Image.Image) -> NDArray[np.int32]:
    """Return the ids or colors of an opened mask, `(height, width)`; raise `BadImageError` for ids beyond 16 bits."""
    pixels = np.asarray(mask)
    if mask.mode == "RGB":
        red, green, blue = (pixels[..., k].astype(np.int32) for k in range(3))
        return red << 16 | green << 8 | blue
    codes = pixels.astype(np.int32)
    if codes.size and not (codes.min() >= 0 and codes.max() < IDS):
        raise BadImageError(f"holds ids from {codes.min()} to {codes.max()}; 0 to {IDS - 1} are possible")
    return codes


def load_mask(source: Path, coding: Coding, spec: InputSpec) -> NDArray[np.uint8]:
    """Return the class map `(height, width)` of `spec`: nearest neighbor, over the part of the image a network sees."""
    mask = open_mask(source, coding.colored)
    box = source_box(mask.size, spec)
    if mask.mode.startswith("I;16") or mask.mode == "1":  # Pillow cannot resize these
        mask = Image.fromarray(codes_of(mask))
    return coding.table[codes_of(mask.resize((spec.width, spec.height), Image.Resampling.NEAREST, box))]
