"""Splits that live in memory as uint8, and the seeded, stratified cut that makes them."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split held whole in memory: `images` uint8 `(n, height, width, channels)`, `targets` int64 `(n,)` or, for
    segmentation, `(n, height, width)`."""

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) != len(self.targets):
            raise ValueError(f"images {self.images.shape} and targets {self.targets.shape} do not belong together")

    @property
    def resident(self) -> bool:
        """True: all images are in memory."""
        return True

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the images and targets at `indices`, in that order."""
        return self.images[indices], self.targets[indices]

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the images and targets."""
        content = hashlib.sha256(np.ascontiguousarray(self.images).data)
        content.update(np.ascontiguousarray(self.targets).data)
        return content.hexdigest()

    def take(self, indices: NDArray[np.int64]) -> "ArraySplit":
        """Return a new split of the images at `indices`."""
        return ArraySplit(*self.read(indices))


def stratified(targets: NDArray[np.int64], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut `count` items out so that every class keeps its share; return the sorted indices `(rest, cut)`.

    Shares are rounded by largest remainder, so `count` is met exactly unless that would empty a class: at least one
    item of each class stays in `rest`. Class maps `(n, height, width)` have no one class per item: there the cut is
    a plain seeded sample.
    """
    rng = np.random.default_rng(seed)
    if targets.ndim > 1:
        order = rng.permutation(len(targets))
        return np.sort(order[count:]), np.sort(order[:count])
    classes, inverse, sizes = np.unique(targets, return_inverse=True, return_counts=True)
    quota = _shares(sizes, count)
    order = rng.permutation(len(targets))
    by_class = order[np.argsort(inverse[order], kind="stable")]
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    cut = [by_class[start : start + take] for start, take in zip(starts, quota, strict=True)]
    chosen = np.zeros(len(targets), bool)
    chosen[np.concatenate(cut) if len(classes) else np.empty(0, np.int64)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def thinned(targets: NDArray[np.int64], limit: int | None, seed: int) -> NDArray[np.int64]:
    """Return the sorted indices of a seeded, stratified choice of `limit` items; None, or a `limit` above their
    number, chooses all. Every class stays; where `limit` is below the number of classes, it is one item each of some.
    """
    if limit is None or limit >= len(targets):
        return np.arange(len(targets))
    if targets.ndim == 1 and limit < len(np.unique(targets)):
        order = np.random.default_rng(seed).permutation(len(targets))
        _, first_of_class = np.unique(targets[order], return_index=True)
        return np.sort(order[np.sort(first_of_class)[:limit]])
    return stratified(targets, len(targets) - limit, seed)[0]


def shrink(split: ArraySplit, limit: int | None, seed: int) -> ArraySplit:
    """Return the split of the images that `thinned` chooses."""
    return split if limit is None else split.take(thinned(split.targets, limit, seed))


def _shares(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Split `count` over classes of `sizes` items in proportion, leaving at least one item in each."""
    room = np.maximum(sizes - 1, 0)
    if not len(sizes) or count <= 0:
        return np.zeros(len(sizes), np.int64)
    exact = count * sizes / sizes.sum()
    quota = np.minimum(np.floor(exact).astype(np.int64), room)
    for index in np.argsort(-(exact - quota), kind="stable"):
        if quota.sum() >= count:
            break
        quota[index] += quota[index] < room[index]
    short = count - int(quota.sum())
    for index in np.argsort(-(room - quota), kind="stable"):  # classes of one item left a gap: the large ones fill it
        extra = min(max(short, 0), int(room[index] - quota[index]))
        quota[index] += extra
        short -= extra
    return quota


def check_limits(val: int, limit: int | None, limit_eval: int | None) -> None:
    """Raise `ValueError` for split sizes that leave a split empty."""
    if val < 1:
        raise ValueError(f"val must be at least 1 image, got {val}")
    for name, value in (("limit", limit), ("limit_eval", limit_eval)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, or null for all images, got {value}")
