"""From the bytes of an image to a uint8 array: size checked before decoding, rotated upright, in the wanted colors."""

import io
import logging
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.resize import FORMATS, fit, upright

T = TypeVar("T")

MOST_PIXELS = 89_478_485
"""Images above this (268 MB once decoded, Pillow's own threshold) are refused by their header, before decoding."""

# What Pillow raises on damaged input: it lets errors of its format plug-ins through as they are.
BROKEN = (
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)

_log = logging.getLogger("edgepress.data")


class BadImageError(DataError):
    """One image that cannot be used; the message is the reason without the file's name."""


def open_image(source: bytes | Path, color: str = "RGB", draft: tuple[int, int] | None = None) -> Image.Image:
    """Return the image upright (EXIF orientation) and in mode `color`, "RGB" or "L".

    `draft` is the least (width, height) wanted: a JPEG may then be decoded at a half, a quarter or an eighth of its
    size. Transparency is dropped, as torchvision and timm do; 16-bit gray keeps its upper 8 bits.
    Raises `BadImageError` for a damaged image, and for one of more than `MOST_PIXELS` pixels, which is never decoded.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadImageError(_too_large(image))
            if draft is not None:
                side = max(draft)  # orientation is not known yet: either side may become the other
                image.draft(None, (side, side))
            return _in_color(upright(image), color)
    except BROKEN as error:
        raise BadImageError(_reason(error)) from error


def _in_color(image: Image.Image, color: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImageError(f"has pixels of mode {image.mode!r}, which have no fixed range; convert it to 8 bits")
    if image.mode == "P":  # its transparency may be a byte string, which only RGBA can hold
        image = image.convert("RGBA")
    image.load()  # here, where the file is still open and its errors have words
    return image if image.mode == color else image.convert(color)


def load_array(source: bytes | Path, spec: InputSpec) -> NDArray[np.uint8]:
    """Return the image at `source` as `spec` wants it; raise `BadImageError` where it cannot be used."""
    # Twice the size that is kept: the last halving is the resize's, so that a draft leaves no visible trace.
    draft = (round(2 * spec.width / spec.crop), round(2 * spec.height / spec.crop))
    return fit(open_image(source, "L" if spec.channels == 1 else "RGB", draft), spec)


def check_image(source: bytes) -> str | None:
    """Return what is wrong with an encoded image as far as its header and its end tell; decode it only in doubt."""
    try:
        with Image.open(io.BytesIO(source), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                return _too_large(image)
            end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}.get(image.format or "")
    except BROKEN as error:
        return _reason(error)
    # Phones append a film or a preview to a whole JPEG: decoding settles it.
    return check_decoded(source) if end and end not in source[-4096:] else None


def check_decoded(source: bytes) -> str | None:
    """Return what is wrong with an encoded image, decoded as small as its format allows."""
    try:
        open_image(source, draft=(1, 1))
    except BadImageError as error:
        return str(error)
    return None


def _too_large(image: Image.Image) -> str:
    return f"has {image.width} x {image.height} pixels, more than the limit of {MOST_PIXELS:,}"


def _reason(error: Exception) -> str:
    return f"cannot be decoded ({type(error).__name__}: {error})"


def workers() -> int:
    """Return how many threads decode images at once."""
    return min(8, os.cpu_count() or 1)


def in_threads(one: Callable[[int], T], count: int) -> list[T]:
    """Return `one` of 0 to `count` - 1, called in a pool of threads; the first error that one raises comes through."""
    with ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(one, range(count)))


def decode_all(
    sources: Sequence[bytes] | Sequence[Path], names: Sequence[str], spec: InputSpec
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Decode `sources` in a pool of threads.

    Returns the images `(n, height, width, channels)`, the indices they came from, and one line (name and reason) per
    image that cannot be used and is left out.
    """
    images = np.empty((len(sources), spec.height, spec.width, spec.channels), np.uint8)

    def one(index: int) -> str | None:
        try:
            images[index] = load_array(sources[index], spec)
        except BadImageError as error:
            return f"{names[index]} {error}"
        return None

    reasons = in_threads(one, len(sources))
    bad = [reason for reason in reasons if reason is not None]
    kept = np.flatnonzero([reason is None for reason in reasons])
    return (images[kept] if bad else images), kept, bad


def check_bad(bad: Sequence[str], total: int, max_bad: float, where: str) -> None:
    """Warn about images left out; raise `DataError` where they are more than the share `max_bad` of `total`."""
    if not bad:
        return
    shown = "\n".join(f"  {line}" for line in bad[:10]) + (f"\n  and {len(bad) - 10} more" if len(bad) > 10 else "")
    summary = f"{where}: {len(bad)} of {total} images cannot be used"
    if len(bad) > max_bad * total:
        raise DataError(f"{summary}, more than the share of {max_bad:g} that may be left out:\n{shown}")
    _log.warning("%s and are left out:\n%s", summary, shown)
