"""Images with a mask each: finding what belongs together, looking at every mask once, reading both.

A pair that cannot be used is named in a warning and left out, up to a share; more are an error. Ids that no class has
are an error, with their number, unless they were declared void.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgepress.core.config import dump
from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.cache import Arrays, cached, digest
from edgepress.data.files import images_below
from edgepress.data.images import BROKEN, BadImageError, check_bad, check_decoded, in_threads, load_array, open_image
from edgepress.data.index import index_files
from edgepress.data.masks import VOID, Coding, check_mask, codes_of, load_mask, open_mask
from edgepress.data.resize import FORMATS

RESIDENT_PIXELS = 64 << 20
"""Splits of fewer pixels than this in all are decoded once and held in memory (4 bytes each)."""

DECODING = 1
"""Bumped when decoding changes, so that no older cache file is taken for its own."""

Unknown = Literal["error", "void"]

_log = logging.getLogger("edgepress.data")


@dataclass(frozen=True)
class Pairs:
    """Images and their masks, as paths relative to a root, in order."""

    images: tuple[str, ...]
    masks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: NDArray[np.int64]) -> "Pairs":
        """Return the pairs at `indices`."""
        return Pairs(tuple(self.images[k] for k in indices), tuple(self.masks[k] for k in indices))

    def cut(self, count: int, seed: int) -> "tuple[Pairs, Pairs]":
        """Return the rest and a seeded choice of `count` pairs."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.take(np.sort(order[count:])), self.take(np.sort(order[:count]))

    def thin(self, limit: int | None, seed: int) -> "Pairs":
        """Return a seeded choice of `limit` pairs; all where `limit` is None or larger."""
        return self if limit is None or limit >= len(self) else self.cut(limit, seed)[1]


@dataclass(frozen=True, eq=False)
class PairArrays:
    """A split held in memory: uint8 images `(n, height, width, channels)` and class maps `(n, height, width)`."""

    images: NDArray[np.uint8]
    maps: NDArray[np.uint8]

    @property
    def resident(self) -> bool:
        """True: everything is in memory."""
        return True

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the images and class maps at `indices`."""
        return self.images[indices], self.maps[indices].astype(np.int64)


@dataclass(frozen=True, eq=False)
class PairFiles:
    """A split decoded when asked for, in a pool of threads; memory is bounded by what is asked."""

    root: Path
    pairs: Pairs
    coding: Coding
    spec: InputSpec

    @property
    def resident(self) -> bool:
        """False: every `read` decodes."""
        return False

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Decode the pairs at `indices`; raise `DataError` naming a file that is no longer whole."""
        images, maps = decode(self.root, self.pairs.take(indices), self.coding, self.spec)
        return images, maps.astype(np.int64)


def found_below(root: Path, folder: Path, ending: str = "") -> dict[str, str]:
    """Return the images below `folder` whose stem ends in `ending`: path relative to `root`, by the path within
    `folder` without ending and suffix. Raises `DataError` where the folder is missing or two files have one stem."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    found: dict[str, str] = {}
    for path in images_below(folder):
        if not path.stem.endswith(ending):
            continue
        key = (path.parent.relative_to(folder) / path.stem.removesuffix(ending)).as_posix()
        if key in found:
            raise DataError(f"{root / found[key]} and {path.name} have one name: which of them is meant?")
        found[key] = path.relative_to(root).as_posix()
    return found


def matched(images: Mapping[str, str], masks: Mapping[str, str]) -> tuple[Pairs, list[str]]:
    """Return the pairs of equal keys, and one line for every image without a mask and mask without an image."""
    both = sorted(images.keys() & masks.keys())
    alone = [f"{path} has no mask" for key, path in sorted(images.items()) if key not in masks]
    alone += [f"{path} is the mask of no image" for key, path in sorted(masks.items()) if key not in images]
    return Pairs(tuple(images[key] for key in both), tuple(masks[key] for key in both)), alone


def load_pairs(
    name: str,
    root: Path,
    splits: Mapping[str, Pairs],
    coding: Coding,
    spec: InputSpec,
    *,
    alone: Sequence[str] = (),
    max_bad: float = 0.01,
    unknown: Unknown = "error",
) -> tuple[dict[str, PairArrays | PairFiles], str]:
    """Return the splits and a digest of their content: labels, relative paths, SHA-256 of every file.

    `alone` are images and masks without a partner, which count as unusable. Every mask is looked at once, and what was
    seen is kept. Raises `DataError` where more than the share `max_bad` is unusable, where a split is left empty, and
    for ids that no class has unless `unknown` is "void".
    """
    images, masks = (sorted({f for pairs in splits.values() for f in getattr(pairs, of)}) for of in ("images", "masks"))
    index = index_files(root, images, check_decoded, check_decoded.__name__)
    index |= index_files(root, masks, check_mask, check_mask.__name__)
    content = {
        split: [[image, index[image].sha256, mask, index[mask].sha256] for image, mask in _each(pairs)]
        for split, pairs in splits.items()
    }
    bad, kept, seen = list(alone), dict[str, Pairs](), dict[str, dict[str, dict[int, int]]]()
    for split, pairs in splits.items():
        seen[split], reasons = _survey(name, root, pairs, content[split], coding.colored)
        told = {image: f"{image} {reason}" for image, reason in reasons.items()}
        for image, mask in _each(pairs):
            if broken := next((file for file in (image, mask) if index[file].reason), None):
                told[image] = f"{broken} {index[broken].reason}"
        bad += told.values()
        kept[split] = pairs.take(np.flatnonzero([image not in told for image in pairs.images]))
        if not len(kept[split]):
            raise DataError("\n".join([f"{root}: the {split} split has no pair that can be used", *bad[:10]]))
    check_bad(bad, sum(map(len, splits.values())) + len(alone), max_bad, str(root))
    _check_ids(root, {image: ids for part in seen.values() for image, ids in part.items()}, coding, unknown)
    kept["train"] = _teaching(root, kept["train"], seen["train"], coding)
    _warn_of_absent(root, seen, coding)
    return (
        {split: _split(name, root, pairs, content[split], coding, spec) for split, pairs in kept.items()},
        digest(list(coding.labels), sorted(coding.classes.items()), coding.colored, content),
    )


def decode(root: Path, pairs: Pairs, coding: Coding, spec: InputSpec) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return images and class maps, decoded in a pool of threads; raise `DataError` naming a damaged file."""
    images = np.empty((len(pairs), spec.height, spec.width, spec.channels), np.uint8)
    maps = np.empty((len(pairs), spec.height, spec.width), np.uint8)

    def one(place: int) -> None:
        for file, into in ((pairs.images[place], images), (pairs.masks[place], maps)):
            try:
                path = root / file
                into[place] = load_array(path, spec) if into is images else load_mask(path, coding, spec)
            except BadImageError as error:
                raise DataError(f"{root / file} {error}; repair or remove it and run again") from error

    in_threads(one, len(pairs))
    return images, maps


def _split(
    name: str, root: Path, pairs: Pairs, content: list[list[str]], coding: Coding, spec: InputSpec
) -> PairArrays | PairFiles:
    if len(pairs) * spec.height * spec.width > RESIDENT_PIXELS:
        return PairFiles(root, pairs, coding, spec)

    def make() -> Arrays:
        images, maps = decode(root, pairs, coding, spec)
        return {"images": images, "maps": maps}

    key = digest(content, list(pairs.images), sorted(coding.classes.items()), coding.colored, dump(spec), DECODING)
    arrays = cached(name, key, ("images", "maps"), make)
    return PairArrays(arrays["images"], arrays["maps"])


def _survey(
    name: str, root: Path, pairs: Pairs, content: list[list[str]], colored: bool
) -> tuple[dict[str, dict[int, int]], dict[str, str]]:
    """Return the pixels of each id by image, and the reason of every pair that cannot be used."""

    def make() -> Arrays:
        counts: list[NDArray[np.int64]] = [np.empty((0, 3), np.int64)] * len(pairs)
        reasons = [""] * len(pairs)

        def one(place: int) -> None:
            try:
                ids, pixels = _counted(root / pairs.images[place], root / pairs.masks[place], colored)
                counts[place] = np.stack([np.full(len(ids), place), ids, pixels], axis=1)
            except BadImageError as error:
                reasons[place] = str(error)

        in_threads(one, len(pairs))
        return {"counts": np.concatenate(counts), "reasons": np.array(reasons, dtype=str)}

    arrays = cached(name, digest("survey", content, colored, DECODING), ("counts", "reasons"), make)
    seen: dict[str, dict[int, int]] = {image: {} for image in pairs.images}
    for place, code, pixels in arrays["counts"].tolist():
        seen[pairs.images[place]][code] = pixels
    reasons = {image: reason for image, reason in zip(pairs.images, arrays["reasons"].tolist(), strict=True) if reason}
    return seen, reasons


def _counted(image: Path, mask: Path, colored: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of a mask and their pixels; raise `BadImageError` where its size is not the image's."""
    try:
        opened = open_mask(mask, colored)
        codes = codes_of(opened).ravel()
    except BadImageError as error:
        raise BadImageError(f"has a mask that {error}") from error
    size = _upright_size(image)
    if size != opened.size:
        sizes = f"{size[0]}x{size[1]} pixels and its mask {opened.size[0]}x{opened.size[1]}"
        raise BadImageError(f"has {sizes}: they must be equal")
    if colored:
        ids, pixels = np.unique(codes, return_counts=True)
        return ids.astype(np.int64), pixels.astype(np.int64)
    counts = np.bincount(codes)
    ids = np.flatnonzero(counts)
    return ids, counts[ids]


def _upright_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of the image once it is turned upright, from its header where that suffices."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else image.size
    except BROKEN:
        return open_image(path).size  # whose error has the words


def _check_ids(root: Path, seen: dict[str, dict[int, int]], coding: Coding, unknown: Unknown) -> None:
    strange: dict[int, tuple[int, int, str]] = {}
    for image, ids in seen.items():
        for code, pixels in ids.items():
            if code not in coding.classes:
                total, images, first = strange.get(code, (0, 0, image))
                strange[code] = (total + pixels, images + 1, first)
    if not strange:
        return
    order = sorted(strange.items(), key=lambda item: -item[1][0])
    lines = [
        f"  {coding.words(code)}: {pixels:,} pixels in {images} mask{'s' * (images > 1)}, first that of {first}"
        for code, (pixels, images, first) in order[:10]
    ]
    lines += [f"  and {len(order) - 10} more"] if len(order) > 10 else []
    what = ("color" if coding.colored else "id") + "s" * (len(strange) > 1)
    head = f"{root}: {len(strange)} {what} in the masks of no class"
    if unknown == "error":
        raise DataError("\n".join([f"{head}; mend the masks, name them, or set `unknown: void`:", *lines]))
    _log.warning("%s and do not count:\n%s", head, "\n".join(lines))


def _teaching(root: Path, pairs: Pairs, seen: dict[str, dict[int, int]], coding: Coding) -> Pairs:
    """Return the pairs without those whose mask is void everywhere: there is nothing to learn from them."""
    void = [all(coding.classes.get(code, VOID) == VOID for code in seen[image]) for image in pairs.images]
    if not any(void):
        return pairs
    named = [image for image, empty in zip(pairs.images, void, strict=True) if empty]
    if len(named) == len(pairs):
        raise DataError(f"{root}: every mask of the train split is void everywhere (as that of {named[0]})")
    _log.warning(
        "%s: %d training masks are void everywhere and are left out: %s", root, len(named), ", ".join(named[:5])
    )
    return pairs.take(np.flatnonzero(~np.array(void)))


def _warn_of_absent(root: Path, seen: dict[str, dict[str, dict[int, int]]], coding: Coding) -> None:
    there = {
        split: {coding.classes.get(code, VOID) for ids in images.values() for code in ids}
        for split, images in seen.items()
    }
    absent = [k for k in range(len(coding.labels)) if k not in there["train"]]
    if not absent:
        return
    asked = [coding.labels[k] for k in absent if any(k in there[split] for split in there if split != "train")]
    tail = f"; of these the other splits hold {', '.join(asked)}" if asked else ""
    _log.warning("%s: no training mask holds %s%s", root, ", ".join(coding.labels[k] for k in absent), tail)


def _each(pairs: Pairs) -> list[tuple[str, str]]:
    return list(zip(pairs.images, pairs.masks, strict=True))
