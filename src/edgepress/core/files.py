"""Files that are whole or absent: write to a temporary name, sync, rename; and one writer at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from edgepress.core.errors import BusyError, EdgepressError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOCK = ".lock"
"""The file in a folder that a process locks while it works there."""


@contextlib.contextmanager
def atomic_write(path: Path, first: bool = False) -> Generator[BinaryIO, None, None]:
    """Yield a binary file that appears at `path` when the block ends well, and not at all otherwise.

    With `first`, a file that another process has put there in the meantime stays: what two make at once is read by both
    from one file. Raises `EdgepressError` where the disk is full or the folder cannot be written.
    """
    with explain_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            _place(name, path, first)
            sync(path.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def _place(name: str, path: Path, first: bool) -> None:
    if not first:
        os.replace(name, path)
        return
    try:
        os.link(name, path)  # unlike a renaming, it never replaces
    except OSError:  # it is there; or this file system has no links
        if not path.exists():
            os.replace(name, path)


def write_bytes(path: Path, data: bytes, first: bool = False) -> None:
    """Write `data` to `path` atomically; with `first`, unless it is there."""
    with atomic_write(path, first) as file:
        file.write(data)


def write_json(path: Path, value: Any, first: bool = False) -> None:
    """Write `value` as indented JSON to `path` atomically; with `first`, unless it is there."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(), first)


def write_array(path: Path, array: "NDArray[Any]") -> None:
    """Write `array` as a `.npy` file to `path` atomically."""
    import numpy as np  # not above: the command line starts without it

    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Generator[Path, None, None]:
    """Yield an empty folder that replaces `path` when the block ends well, and is removed otherwise."""
    with explain_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    sync(file)
            os.chmod(temporary, 0o755)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
                os.replace(path, old)
                os.replace(temporary, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(temporary, path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sync(path: Path) -> None:
    """Make the content of a file, or the renames in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def lock(folder: Path, busy: str) -> Generator[None, None, None]:
    """Hold `folder` for this process; raise `BusyError` with the text `busy` where another one has it.

    The kernel drops the lock when the process ends, however it ends, so there is no stale lock to remove.
    """
    with explain_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "w")  # noqa: SIM115  (held for the whole block, closed below)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(busy) from None
        yield
    finally:
        file.close()


def sha256(path: Path) -> str:
    """Return the SHA-256 of the file at `path` as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def explain_disk(path: Path) -> Generator[None, None, None]:
    """Turn "no space", "read-only" and "permission denied" into an `EdgepressError` that names the mend."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; free some space (`edgepress gc` removes unused runs) and run again",
            errno.EDQUOT: "the disk quota is used up; free some space and run again",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.EACCES: "no permission to write there; choose another folder or mend its permissions",
            errno.EPERM: "no permission to write there; choose another folder or mend its permissions",
            errno.EEXIST: "a part of that path is a file, not a folder",
            errno.ENOTDIR: "a part of that path is a file, not a folder",
        }
        if error.errno not in reasons:
            raise
        raise EdgepressError(f"cannot write {path}: {reasons[error.errno]}") from error
