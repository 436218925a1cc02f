"""A bundle: the folder an exported network travels in. Written whole or not at all; read as untrusted input.

Nothing in a bundle is code: no pickle, no custom operator library, and no file is opened but those the manifest lists,
by plain names, without following links.
"""

import os
import stat
from pathlib import Path

from edgepress.core.artifact import Program
from edgepress.core.errors import BundleError
from edgepress.core.files import atomic_folder, write_bytes
from edgepress.runtime.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    decode,
    digest,
    encode,
    manifest_of,
)


def save_bundle(program: Program, folder: Path) -> None:
    """Write `program` to `folder`, which then is the whole bundle; an older bundle there is replaced.

    Raises `BundleError` where the program cannot be a bundle or `folder` holds something else, `EdgepressError` where
    the disk does not allow it; `folder` is untouched then.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / MANIFEST).exists() or not any(folder.iterdir()))):
        raise BundleError(f"{folder} is there and is not a bundle; name a new folder, or remove it first")
    text = encode(manifest_of(program, folder.absolute().name))
    with atomic_folder(folder) as temporary:
        for name, data in program.files.items():
            write_bytes(temporary / name, data)
        write_bytes(temporary / MANIFEST, text)


def read_bundle(folder: Path) -> Program:
    """Return the program in `folder`, every byte of it checked.

    Raises `BundleError` where the manifest is damaged or of another format version, a file is missing, of another size
    or content than the manifest states, a link, or too large to be safe.
    """
    manifest = read_manifest(folder)
    files = {entry.name: _read_entry(folder, entry) for entry in manifest.files}
    return Program(
        signature=manifest.signature,
        runtime=manifest.runtime,
        precision=manifest.precision,
        files=files,
        provenance=manifest.provenance,
        parity=manifest.parity,
        key=manifest.key,
    )


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the bundle in `folder`; the other files are not touched. Raises `BundleError`."""
    path = folder / MANIFEST
    if not os.path.lexists(path):
        inner = folder / "bundle"
        hint = f"; did you mean {inner}?" if (inner / MANIFEST).exists() else ""
        raise BundleError(f"no bundle at {folder}: a bundle is a folder with a {MANIFEST}{hint}")
    return decode(_read_plain(path, MAX_MANIFEST_BYTES), str(path))


def _read_entry(folder: Path, entry: FileEntry) -> bytes:
    path = folder / entry.name
    data = _read_plain(path, entry.bytes)
    if len(data) != entry.bytes:
        raise BundleError(f"{path}: {len(data)} bytes, the manifest states {entry.bytes}; copy or export it again")
    if digest(data) != entry.sha256:
        raise BundleError(f"{path}: its SHA-256 is not the one in the manifest; copy or export it again")
    return data


def _read_plain(path: Path, most: int) -> bytes:
    """Return the content of the plain file at `path`, of at most `most` bytes, looking at its size before reading."""
    try:
        # A link could lead outside the bundle, a pipe would block: neither is opened as one.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if path.is_symlink():
            raise BundleError(f"{path}: a symbolic link; the files of a bundle must be plain files") from None
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy or export it again") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: not a plain file")
        if status.st_size > most:
            raise BundleError(f"{path}: {status.st_size} bytes, at most {most} are expected; copy or export it again")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(most + 1)  # one more than allowed shows a file that grows
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy or export it again") from None
    finally:
        os.close(handle)
