"""Decoded data sets on disk: decoded once, kept as plain `.npy` files under a key of the content they came from."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import EdgepressError
from edgepress.core.files import atomic_write

Arrays = dict[str, NDArray[Any]]


def cache_folder() -> Path:
    """Return the folder for decoded and downloaded data: `$EDGEPRESS_CACHE`, or `~/.cache/edgepress`."""
    given = os.environ.get("EDGEPRESS_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "edgepress"


def data_folder() -> Path | None:
    """Return the folder of the user's data sets, `$EDGEPRESS_DATA`, or None where it is not set."""
    given = os.environ.get("EDGEPRESS_DATA")
    return Path(given).expanduser() if given else None


def digest(*parts: Any) -> str:
    """Return the SHA-256 (hex) of `parts`, which are JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, allow_nan=False).encode()).hexdigest()


def cached(name: str, key: str, fields: tuple[str, ...], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays `fields` that `make()` gives, from the cache where they were made before.

    `key` is a digest of everything the arrays depend on. A file that cannot be read back (cut short, not an array) is
    made again. Each file appears whole or not at all, so that two processes may fill the cache at once.
    Raises `EdgepressError` where the cache folder cannot be written.
    """
    paths = {field: cache_folder() / name / f"{key[:32]}-{field}.npy" for field in fields}
    found = {field: _read(path) for field, path in paths.items()}
    whole = {field: array for field, array in found.items() if array is not None}
    if len(whole) == len(fields):
        return whole
    arrays = make()
    for field, path in paths.items():
        try:
            with atomic_write(path) as file:
                np.save(file, arrays[field], allow_pickle=False)
        except EdgepressError as error:
            raise EdgepressError(f"{error} (the environment variable EDGEPRESS_CACHE names the folder)") from error
    return arrays


def _read(path: Path) -> NDArray[Any] | None:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
