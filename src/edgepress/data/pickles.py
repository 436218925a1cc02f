"""The CIFAR batches of cs.toronto.edu, which are pickles, read without ever calling what a pickle names."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import DataError

_DAMAGED = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(OverflowError, MemoryError, OSError, struct.error),
)


class _Dtype:
    """Stands for `numpy.dtype` in a pickle: only unsigned bytes are let through."""

    def __init__(self, code: Any = "u1", *_: Any) -> None:
        if code not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"an array of {code!r}, where only bytes belong")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment mean nothing for bytes."""


class _Array:
    """Stands for `numpy.ndarray`: keeps the state of an array, which `array` turns into one."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> NDArray[np.uint8]:
        _, shape, _, fortran, data = self.state
        raw = data if isinstance(data, bytes) else data.encode("latin-1")
        return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: Any = "latin1") -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


_STANDINS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    """An unpickler in which a pickle can name four things, none of which is the real one."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STANDINS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a CIFAR batch has no use for")
        return _STANDINS[module, name]


def read_batch(path: Path, label_keys: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images `(n, 32, 32, 3)` and labels of one CIFAR batch file.

    `label_keys` are the names of the list of labels to look for. Raises `DataError` for a file that is damaged, or
    a pickle of anything but bytes, numbers and byte arrays; nothing such a pickle names is imported or called.
    """
    try:
        with open(path, "rb") as file:
            content = _Reader(file, encoding="latin1").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in content.items()}
        labels = np.array(next(batch[key] for key in label_keys if key in batch), np.int64)
        images = batch["data"].array().reshape(len(labels), 3, 32, 32)
    except (*_DAMAGED, StopIteration) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is not a CIFAR batch as published: {reason}; fetch the archive again") from error
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels
