"""What is known of the files of an image folder: the SHA-256 of each and why one cannot be used, kept between runs.

A folder is read once, in full; afterwards only files whose size or time changed are read again. A fingerprint made from
this changes when the content of any file does, and does not when the folder is moved or copied.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.core.errors import DataError
from edgepress.core.files import write_bytes
from edgepress.data.cache import cache_folder, digest
from edgepress.data.images import workers

_SETTLED = 2_000_000_000
"""Nanoseconds a file must be older than its index: within one tick of the clock a second write leaves no trace."""


@dataclass(frozen=True)
class Entry:
    """One file: its SHA-256, and the reason why it cannot be used or None."""

    sha256: str
    reason: str | None


def index_files(
    root: Path, names: Sequence[str], check: Callable[[bytes], str | None], check_name: str
) -> dict[str, Entry]:
    """Return what is known of the files `names`, paths relative to `root`.

    `check` is given a file's bytes and returns what is wrong with it; `check_name` tells results of different checks
    apart. Raises `DataError` where a file vanishes meanwhile.
    """
    store = cache_folder() / "index" / f"{digest(str(root.resolve()), check_name)[:32]}.json"
    known = _read_index(store)
    started = time.time_ns()

    def one(name: str) -> list[Any]:
        path = root / name
        try:
            status = path.stat()
            state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            old = known.get(name)
            if old is not None and old[:3] == state:
                return old
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise DataError(f"{path} vanished while {root} was read") from error
        except OSError as error:
            return [0, 0, 0, "", f"cannot be read ({error.strerror})"]
        return [*state, hashlib.sha256(data).hexdigest(), check(data)]

    with ThreadPoolExecutor(workers()) as pool:
        rows = dict(zip(names, pool.map(one, names), strict=True))
    settled = {name: row for name, row in rows.items() if max(row[1], row[2]) < started - _SETTLED and row[3]}
    if any(known.get(name) != row for name, row in settled.items()):
        write_bytes(store, json.dumps({**known, **settled}, separators=(",", ":")).encode())
    return {name: Entry(row[3], row[4]) for name, row in rows.items()}


def _read_index(store: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(store.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
