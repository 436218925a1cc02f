"""This edgepress as a wheel, made of its own files: what a board gets installed, whichever way it came here."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from edgepress.core.files import write_bytes
from edgepress.measure.environment import package_version

WHEEL = b"Wheel-Version: 1.0\nGenerator: edgepress\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
STAMP = (2020, 1, 1, 0, 0, 0)  # the same files give the same wheel


def wheel_name() -> str:
    """Return the file name of the wheel."""
    return f"edgepress-{_version()}-py3-none-any.whl"


def write_wheel(folder: Path) -> Path:
    """Write the wheel into `folder` and return its path. It asks for the same packages as this installation does."""
    name = f"edgepress-{_version()}"
    package = Path(__file__).parent.parent
    files = {
        f"edgepress/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    files[f"{name}.dist-info/METADATA"] = _metadata().encode()
    files[f"{name}.dist-info/WHEEL"] = WHEEL
    files[f"{name}.dist-info/entry_points.txt"] = b"[console_scripts]\nedgepress = edgepress.cli:main\n"
    record = "".join(f"{path},{_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{name}.dist-info/RECORD"] = (record + f"{name}.dist-info/RECORD,,\n").encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path, STAMP), data, zipfile.ZIP_DEFLATED)
    to = folder / wheel_name()
    write_bytes(to, made.getvalue())
    return to


def _version() -> str:
    return package_version("edgepress") or "0"


def _metadata() -> str:
    try:
        found = distribution("edgepress").read_text("METADATA")
    except PackageNotFoundError:
        found = None
    return found or f"Metadata-Version: 2.1\nName: edgepress\nVersion: {_version()}\n"


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"
