"""What is known of the files of an image folder: the SHA-256 of each and why one cannot be used, kept between runs.

A folder is read once, in full; afterwards only files whose size or time changed are read again. A fingerprint made from
this changes when the content of any file does, and does not when the folder is moved or copied.
"""

import hashlib
import json
import stat
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

MOST_BYTES = 512 << 20
"""Larger files are refused unread."""

AT_ONCE, EVERY = 10_000, 60.0
"""Files that wait for a thread, and seconds after which what is known is written: the first reading of a large folder
takes hours, and goes on where it was stopped."""


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
            if not stat.S_ISREG(status.st_mode):
                return [0, 0, 0, "", "is no file that can be read as one"]
            if status.st_size > MOST_BYTES:
                return [0, 0, 0, "", f"has {status.st_size:,} bytes, more than the limit of {MOST_BYTES:,}"]
            state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            old = known.get(name)
            if old is not None and old[:3] == state:
                return old
            data = path.read_bytes()
        except FileNotFoundError as error:
            if path.is_symlink():
                return [0, 0, 0, "", "is a link to nothing"]
            raise DataError(f"{path} vanished while {root} was read") from error
        except OSError as error:
            return [0, 0, 0, "", f"cannot be read ({error.strerror})"]
        return [*state, hashlib.sha256(data).hexdigest(), check(data)]

    rows: dict[str, list[Any]] = {}
    written = time.monotonic()
    with ThreadPoolExecutor(workers()) as pool:
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            rows.update(zip(some, pool.map(one, some), strict=True))
            if time.monotonic() - written > EVERY:
                _write_index(store, known, rows, started)
                written = time.monotonic()
    _write_index(store, known, rows, started)
    return {name: Entry(row[3], row[4]) for name, row in rows.items()}


def _write_index(store: Path, known: dict[str, list[Any]], rows: dict[str, list[Any]], started: int) -> None:
    """Write what is known by now, unless it is what was known before."""
    settled = {name: row for name, row in rows.items() if max(row[1], row[2]) < started - _SETTLED and row[3]}
    if any(known.get(name) != row for name, row in settled.items()):
        write_bytes(store, json.dumps({**known, **settled}, separators=(",", ":")).encode())


def _read_index(store: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(store.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
