"""Fetching a published archive: checked before it is opened, unpacked without trusting the paths inside it."""

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import IO

from edgepress.core.errors import DataError
from edgepress.core.files import atomic_write, explain_disk

_CHUNK = 1 << 20


def fetch_archive(url: str, sha256: str, folder: Path, timeout: float = 30.0) -> None:
    """Download the `.tar.gz` at `url` and unpack its regular files into `folder`.

    Raises `DataError` where there is no network, the SHA-256 differs or the archive is damaged; then `folder` holds
    no more than whole files. `timeout` is in seconds, per read.
    """
    with explain_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as archive:
            got = hashlib.sha256()
            try:
                with urllib.request.urlopen(url, timeout=timeout) as reply:
                    while chunk := reply.read(_CHUNK):
                        got.update(chunk)
                        archive.write(chunk)
            except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
                raise DataError(f"cannot download {url}: {error}; fetch it elsewhere and set 'root'") from error
            if got.hexdigest() != sha256:
                raise DataError(f"{url} has the SHA-256 {got.hexdigest()}, expected {sha256}; nothing was unpacked")
            archive.seek(0)
            _unpack(archive, folder, url)


def _unpack(archive: IO[bytes], folder: Path, url: str) -> None:
    root = folder.resolve()
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            for member in tar:
                target = (root / member.name).resolve()
                if not member.isfile():
                    continue
                if not target.is_relative_to(root):
                    raise DataError(f"{url} holds a path outside its folder: {member.name!r}")
                source = tar.extractfile(member)
                if source is not None:
                    with atomic_write(target) as file:
                        shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{url} cannot be unpacked: {error}") from error
