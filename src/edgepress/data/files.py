"""Images in folders, one folder per class: listing them, checking them, reading them as a stream or into memory."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.config import dump
from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit, thinned
from edgepress.data.cache import Arrays, cached, digest
from edgepress.data.images import (
    BadImageError,
    check_bad,
    check_decoded,
    check_image,
    decode_all,
    in_threads,
    load_array,
)
from edgepress.data.index import index_files

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

RESIDENT_BYTES = 512 << 20
"""Sets that take less than this once decoded are decoded once and held in memory."""

DECODING = 1
"""Bumped when decoding changes, so that no older cache file is taken for its own."""


@dataclass(frozen=True)
class Listing:
    """The files of one split, as paths relative to the root, and their class ids."""

    names: tuple[str, ...]
    targets: NDArray[np.int64]

    def take(self, indices: NDArray[np.int64]) -> "Listing":
        """Return the listing of the files at `indices`."""
        return Listing(tuple(self.names[index] for index in indices), self.targets[indices])

    def thin(self, limit: int | None, seed: int) -> "Listing":
        """Return the listing of the files that `thinned` chooses."""
        return self.take(thinned(self.targets, limit, seed))


@dataclass(frozen=True, eq=False)
class FileSplit:
    """A split whose images are decoded when asked for, in a pool of threads; memory is bounded by what is asked."""

    root: Path
    listing: Listing
    spec: InputSpec

    @property
    def resident(self) -> bool:
        """False: every `read` decodes."""
        return False

    def __len__(self) -> int:
        return len(self.listing.names)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The class ids `(n,)`, known without decoding."""
        return self.listing.targets

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Decode the images at `indices`; raise `DataError` naming a file that was whole when the set was loaded and
        is not any more."""
        images = np.empty((len(indices), self.spec.height, self.spec.width, self.spec.channels), np.uint8)

        def one(place: int) -> None:
            path = self.root / self.listing.names[int(indices[place])]
            try:
                images[place] = load_array(path, self.spec)
            except BadImageError as error:
                raise DataError(f"{path} {error}; repair or remove it and run again") from error

        in_threads(one, len(indices))
        return images, self.listing.targets[indices]


def class_names(folder: Path) -> list[str]:
    """Return the names of the class folders in `folder`, sorted; raise `DataError` where there are none."""
    try:
        entries = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{folder} is not a folder; expected one folder of images per class in it") from error
    names = [entry.name for entry in entries if entry.is_dir() and not _hidden(entry.name)]
    if names:
        return names
    loose = sum(entry.suffix.lower() in SUFFIXES for entry in entries)
    detail = f"{loose} images lie directly in it; " if loose else ""
    raise DataError(f"{folder} holds no class folders; {detail}put the images of each class into a folder of its name")


def list_split(root: Path, folder: Path, classes: Sequence[str], every_class: bool) -> Listing:
    """List the images of `folder/<class>/`, at any depth, in sorted order.

    Raises `DataError` for a class folder without images where `every_class`, and for a split without any.
    """
    names: list[str] = []
    targets: list[int] = []
    for number, label in enumerate(classes):
        found = images_below(folder / label)
        if every_class and not found:
            raise DataError(f"{folder / label} holds no images ({', '.join(SUFFIXES)}); add some or remove the folder")
        names += [path.relative_to(root).as_posix() for path in found]
        targets += [number] * len(found)
    if not names:
        raise DataError(f"{folder} holds no images")
    return Listing(tuple(names), np.array(targets, np.int64))


def images_below(folder: Path) -> list[Path]:
    """Return the images in `folder`, at any depth, sorted; what is hidden (`.x`, `__MACOSX`) is not looked at."""
    found: list[Path] = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(here, name) for name in files if Path(name).suffix.lower() in SUFFIXES and name[0] != "."]
    return sorted(found)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "__pycache__")


def load_splits(
    name: str,
    root: Path,
    listings: Mapping[str, Listing],
    labels: Sequence[str],
    spec: InputSpec,
    max_bad: float,
    decode_check: bool = True,
) -> tuple[dict[str, ArraySplit | FileSplit], str]:
    """Return the splits of `listings` and a digest of their content: labels, relative paths, SHA-256 of every file.

    Files that cannot be used are named in a warning and left out. Small sets become resident. Larger ones are checked
    when first met: by decoding each file once, or, without `decode_check`, by header and end of file only.
    Raises `DataError` where more than the share `max_bad` cannot be used, or nothing of a class is left in a split.
    """
    every = sorted({file for listing in listings.values() for file in listing.names})
    small = len(every) * spec.height * spec.width * spec.channels < RESIDENT_BYTES
    check = check_decoded if decode_check and not small else check_image
    index = index_files(root, every, check, check.__name__)
    content = {
        split: [[file, index[file].sha256, int(target)] for file, target in zip(one.names, one.targets, strict=True)]
        for split, one in listings.items()
    }
    bad = [f"{file} {index[file].reason}" for file in every if index[file].reason]
    splits: dict[str, ArraySplit | FileSplit] = {}
    for split, listing in listings.items():
        usable = listing.take(np.flatnonzero([index[file].reason is None for file in listing.names]))
        if small:
            splits[split], unusable = _resident(name, root, usable, content[split], spec)
            bad += unusable
        else:
            splits[split] = FileSplit(root, usable, spec)
    check_bad(bad, len(every), max_bad, str(root))
    for split, listing in listings.items():
        _check_filled(f"{root}: the {split} split", listing.targets, splits[split].targets, labels)
    return splits, digest(list(labels), content)


def _resident(
    name: str, root: Path, listing: Listing, content: list[list[Any]], spec: InputSpec
) -> tuple[ArraySplit, list[str]]:
    def make() -> Arrays:
        paths = [root / file for file in listing.names]
        images, kept, bad = decode_all(paths, listing.names, spec)
        return {"images": images, "targets": listing.targets[kept], "bad": np.array(bad, dtype=str)}

    arrays = cached(name, digest(content, dump(spec), DECODING), ("images", "targets", "bad"), make)
    return ArraySplit(arrays["images"], arrays["targets"]), arrays["bad"].tolist()


def _check_filled(where: str, listed: NDArray[np.int64], loaded: NDArray[np.int64], labels: Sequence[str]) -> None:
    gone = sorted(set(listed.tolist()) - set(loaded.tolist()))
    if gone:
        names = ", ".join(labels[int(number)] for number in gone)
        raise DataError(f"{where} has images of {names}, but not one of them can be used")
