"""From whatever a person has (a path, a PIL image, an array) to what the network takes, as the manifest states it."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.resize import FORMATS, fit, upright

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]

MAX_PIXELS = 89_000_000
"""Larger images are refused by their header, before decoding: 89 million pixels take 270 MB as RGB. Just below the
size from which Pillow itself warns."""

# What Pillow's plugins raise for damaged files, besides UnidentifiedImageError.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError, RuntimeError,
    struct.error,
)  # fmt: skip


def prepare(image: ImageLike, spec: InputSpec) -> NDArray[np.uint8]:
    """Return `image` as uint8 `(height, width, channels)` of the size and color order of `spec`.

    A path or PIL image is turned upright by its EXIF tag and converted: transparency is dropped, as when networks are
    trained with torchvision or timm, 16-bit gray keeps its upper 8 bits. An array is uint8 `(H, W)`, `(H, W, 1)`,
    `(H, W, 3)` RGB or `(H, W, 4)` RGBA. Raises `DataError` for anything else.
    """
    return fit(open_image(image, spec), spec)


def open_image(image: ImageLike, spec: InputSpec) -> Image.Image:
    """Return `image` upright and in mode "RGB" or "L" (by `spec.color`), at its own size. Raises `DataError`."""
    mode = "L" if spec.color == "L" else "RGB"
    if isinstance(image, np.ndarray):
        return _convert(_from_array(image), mode, "array")
    if isinstance(image, Image.Image):
        return _upright(image, mode, "image")
    if not isinstance(image, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"an image is a path, a PIL image or a uint8 array, not {type(image).__name__}")
    path = Path(image)
    if not path.is_file():
        raise DataError(f"{path}: no such image file")
    try:
        with Image.open(path, formats=FORMATS) as opened:
            return _upright(opened, mode, str(path))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: above {MAX_PIXELS} pixels; scale it down first") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image of the formats {', '.join(FORMATS)}, or damaged") from None
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def to_input(images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Return uint8 `images` `(N, height, width, channels)` as what a network takes: float32, channels first.

    The same arithmetic, to the bit, as `models.inputs.normalize`. Raises `DataError` where they do not fit `spec`.
    """
    wanted = (spec.height, spec.width, spec.channels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
        raise DataError(f"expected uint8 images of shape {('N', *wanted)}, got {images.dtype} {images.shape}")
    std = np.asarray(spec.std, np.float64)
    scale = (1 / (255 * std)).astype(np.float32)[:, None, None]
    shift = (-np.asarray(spec.mean, np.float64) / std).astype(np.float32)[:, None, None]
    result = np.empty((len(images), *spec.shape), np.float32)
    np.multiply(images.transpose(0, 3, 1, 2), scale, out=result, casting="same_kind")
    return np.add(result, shift, out=result)


def _upright(image: Image.Image, mode: str, where: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{where}: {width}x{height} pixels, at most {MAX_PIXELS} are decoded; scale it down first")
    if width * height == 0:
        raise DataError(f"{where}: {width}x{height}, no pixels")
    try:
        image.load()
        return _convert(upright(image), mode, where)
    except _DAMAGE as error:
        raise DataError(f"{where}: damaged or truncated ({error})") from None


def _convert(image: Image.Image, mode: str, where: str) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{where}: pixels of mode {image.mode!r} have no fixed range; convert it to 8 bits first")
    # By way of a mode that Pillow can reach: the transparency of a palette may be a byte string, which only RGBA holds.
    if image.mode in ("P", "La"):
        image = image.convert("RGBA" if image.mode == "P" else "LA")
    return image if image.mode == mode else image.convert(mode)


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8:
        hint = "; a float image in 0..1 becomes one by (image * 255).round().astype(np.uint8)"
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            hint = "; this one holds NaN or infinite values"
        raise DataError(f"an image array must be uint8, got {array.dtype}{hint if array.dtype.kind == 'f' else ''}")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        hint = "; channels come last: image.transpose(1, 2, 0)" if array.shape[0] in (1, 3, 4) else ""
        raise DataError(f"an image array has shape (H, W) or (H, W, 1, 3 or 4), got {array.shape}{hint}")
    if array.ndim not in (2, 3) or array.size == 0:
        raise DataError(f"an image array has shape (H, W) or (H, W, 1, 3 or 4), got {array.shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise DataError(f"an array of {array.shape[1]}x{array.shape[0]} pixels is above {MAX_PIXELS}")
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(flat))
