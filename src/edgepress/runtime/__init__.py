"""What goes onto the device: read a bundle, run it, and nothing of the workshop. Importing this imports no library."""

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepress.runtime.pipeline import Pipeline


def load(folder: str | PathLike[str], threads: int | None = None) -> "Pipeline":
    """Return the bundle in `folder` as a `Pipeline`: call it with an image, get labels and scores.

    `threads` is the number of threads a prediction may use, by default all cores this process has. Raises `BundleError`
    where the bundle is damaged, unsafe or of a version that cannot be read, `MissingExtraError` where its engine is
    absent.
    """
    # numpy, Pillow and pydantic cost 0.3 s: `edgepress --help` must not pay for them.
    from pathlib import Path

    from edgepress.runtime.bundle import read_bundle
    from edgepress.runtime.pipeline import Pipeline

    return Pipeline(read_bundle(Path(folder)), threads)


__all__ = ["load"]
