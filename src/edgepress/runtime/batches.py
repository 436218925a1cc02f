"""What several engines share: a check of the images that enter, and networks that take one image at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program
from edgepress.core.errors import BundleError, DataError

FLOAT32 = np.dtype(np.float32)


def check_images(images: NDArray[Any], shape: tuple[int, int, int]) -> None:
    """Raise `DataError` unless `images` are a float32 batch of images of `shape` `(channels, height, width)`."""
    if images.dtype != FLOAT32 or images.shape[1:] != shape or len(images) == 0:
        raise DataError(
            f"the network does not take a batch of {images.dtype} {images.shape}; float32 {('N', *shape)} fits"
        )


def check_outputs(outputs: NDArray[Any], labels: int, file: str) -> None:
    """Raise `BundleError` unless the outputs of `file` have one channel per label."""
    if outputs.ndim < 2 or outputs.shape[1] != labels:
        raise BundleError(f"{file} gives {outputs.shape}, the manifest has {labels} labels")


def file_of(program: Program, name: str, threads: int) -> bytes:
    """Return the content of the file `name` of a bundle. Raises `BundleError` without it, `DataError` for no thread."""
    if threads < 1:
        raise DataError(f"a network needs at least one thread, got {threads}")
    if name not in program.files:
        raise BundleError(f"the bundle holds no {name}, only {', '.join(sorted(program.files))}")
    return program.files[name]


def first_line(error: BaseException, most: int = 300) -> str:
    """Return the first line of a library's message: where most say what is wrong."""
    return (_lines(str(error)) or [type(error).__name__])[0][:most]


def last_line(error: BaseException | str, most: int = 300) -> str:
    """Return the last line of a library's message: where those that wrap errors in errors say what is wrong."""
    return (_lines(str(error)) or [type(error).__name__ if isinstance(error, BaseException) else ""])[-1][:most]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
