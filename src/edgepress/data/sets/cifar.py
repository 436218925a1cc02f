"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 60,000 color images of 32x32, from whichever copy is at hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgepress.core.errors import DataError
from edgepress.core.files import sha256
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit, check_limits, shrink, stratified
from edgepress.data.base import Data, DataSource, Split, datasets
from edgepress.data.cache import Arrays, cache_folder, cached, data_folder, digest
from edgepress.data.download import fetch_archive
from edgepress.data.images import check_bad
from edgepress.data.parquet import find_parquet, read_parquet
from edgepress.data.pickles import read_batch
from edgepress.data.resize import ResizedSplit
from edgepress.data.sets.cifar_labels import CIFAR10_LABELS, CIFAR100_LABELS

DECODING = 1
"""Bumped when decoding changes, so that no older cache file is taken for its own."""

LARGEST = 1024
"""Pixels a side that images may be enlarged to."""

_MAX_BAD = 0.01


@dataclass(frozen=True)
class Publication:
    """How a data set is published: the archive's address and checksum, its folder, its files, its label names."""

    url: str
    sha256: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True)
class _Copy:
    """One copy on disk: the files of each split, and how they are read."""

    files: dict[str, list[Path]]
    read: Callable[[list[Path]], Arrays]


@dataclass(frozen=True)
class Cifar(DataSource):
    """Fields of both data sets.

    `root` is the folder to read; where it is absent, `$EDGEPRESS_DATA/<name>` and the cache are looked at, and with
    `download` the official archive is fetched into the cache. `val` images are cut from train, stratified with `seed`.
    `limit` keeps that many images of train, `limit_eval` that many of val and of test. `size` resizes each image to so
    many pixels a side as it is read, for networks made for larger images; null leaves the 32x32 as they are.
    """

    root: str | None = None
    val: int = 5000
    seed: int = 0
    limit: int | None = None
    limit_eval: int | None = None
    download: bool = False
    size: int | None = None

    name: ClassVar[str]
    labels: ClassVar[tuple[str, ...]]
    input: ClassVar[InputSpec]
    published: ClassVar[Publication]

    def __post_init__(self) -> None:
        check_limits(self.val, self.limit, self.limit_eval)
        if self.size is not None and not 8 <= self.size <= LARGEST:
            raise ValueError(f"size must be 8 to {LARGEST} pixels, or null for the images as they are, got {self.size}")

    def load(self) -> Data:
        """Return the data set; raise `DataError` where no copy is found or the copy is damaged."""
        copy = self._find()
        if copy is None and self.download and self.root is None:
            fetch_archive(self.published.url, self.published.sha256, cache_folder() / self.name)
            copy = self._find()
        if copy is None:
            raise DataError(self._missing())
        content = {split: digest([sha256(path) for path in paths]) for split, paths in copy.files.items()}
        train, test = (self._decode(copy, split, content[split]) for split in ("train", "test"))
        if self.val > len(train) - len(np.unique(train.targets)):
            raise DataError(f"{self.name}: val takes {self.val} of {len(train)} training images; make it smaller")
        rest, cut = stratified(train.targets, self.val, self.seed)
        chosen = {"train": (train.take(rest), self.limit), "val": (train.take(cut), self.limit_eval)}
        chosen["test"] = (test, self.limit_eval)
        splits = {name: shrink(split, limit, self.seed) for name, (split, limit) in chosen.items()}
        identity = [self.name, DECODING, content, self.val, self.seed, self.limit, self.limit_eval]
        spec = self.input
        if self.size is not None:
            spec = replace(spec, height=self.size, width=self.size)
            return self._data(
                {name: ResizedSplit(split, spec) for name, split in splits.items()}, spec, digest(*identity, self.size)
            )
        return self._data(splits, spec, digest(*identity))

    def _data(self, splits: Mapping[str, Split], spec: InputSpec, fingerprint: str) -> Data:
        return Data(self.name, "classification", self.labels, spec, **splits, fingerprint=fingerprint)

    def available(self) -> str | None:
        """Return None where a copy is on this machine, else where it was looked for."""
        return None if self._find() else self._missing()

    def folders(self) -> list[Path]:
        """Return where a copy is looked for, in order; a given `root` is the only place."""
        if self.root is not None:
            return [Path(self.root).expanduser()]
        given = data_folder()
        here = [given / self.name, given / self.published.folder] if given else []
        return [*here, cache_folder() / self.name]

    def _find(self) -> _Copy | None:
        return next((copy for folder in self.folders() if (copy := self._copy_in(folder))), None)

    def _copy_in(self, folder: Path) -> _Copy | None:
        names = {"train": self.published.train, "test": self.published.test}
        for place in (folder, folder / self.published.folder):
            batches = {split: [place / name for name in names[split]] for split in names}
            if all(path.is_file() for paths in batches.values() for path in paths):
                return _Copy(batches, self._read_batches)
        tables = {split: find_parquet(folder, split) for split in names}
        return _Copy(tables, self._read_tables) if all(tables.values()) else None

    def _missing(self) -> str:
        looked = " and ".join(str(folder) for folder in self.folders())
        return (
            f"{self.name} is not on this machine: looked in {looked} for {self.published.folder}/ (torchvision) or "
            f"train and test .parquet files (Hugging Face); set the field 'root' or EDGEPRESS_DATA to where they are, "
            f"or 'download: true' to fetch {self.published.url}"
        )

    def _decode(self, copy: _Copy, split: str, content: str) -> ArraySplit:
        paths = copy.files[split]
        arrays = cached(self.name, digest(content, DECODING), ("images", "targets", "bad"), lambda: copy.read(paths))
        targets, where = arrays["targets"], str(paths[0].parent)
        check_bad(arrays["bad"].tolist(), len(targets) + len(arrays["bad"]), _MAX_BAD, where)
        if not len(targets) or targets.min() < 0 or targets.max() >= len(self.labels):
            raise DataError(f"{where}: labels of the {split} split are not all in 0..{len(self.labels) - 1}")
        return ArraySplit(arrays["images"], targets)

    def _read_batches(self, paths: list[Path]) -> Arrays:
        images, targets = zip(*[read_batch(path, self.published.keys) for path in paths], strict=True)
        return {"images": np.concatenate(images), "targets": np.concatenate(targets), "bad": np.array([], str)}

    def _read_tables(self, paths: list[Path]) -> Arrays:
        keys = tuple(key.removesuffix("s") for key in self.published.keys)
        return read_parquet(paths, ("img", "image"), keys, self.input)


@datasets.register("cifar10")
@dataclass(frozen=True)
class Cifar10(Cifar):
    """CIFAR-10: ten classes of 6,000 images."""

    name: ClassVar[str] = "cifar10"
    labels: ClassVar[tuple[str, ...]] = CIFAR10_LABELS
    input: ClassVar[InputSpec] = InputSpec(32, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
    published: ClassVar[Publication] = Publication(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{n}" for n in range(1, 6)),
        test=("test_batch",),
        keys=("labels",),
    )


@datasets.register("cifar100")
@dataclass(frozen=True)
class Cifar100(Cifar):
    """CIFAR-100: a hundred classes (the fine labels) of 600 images."""

    name: ClassVar[str] = "cifar100"
    labels: ClassVar[tuple[str, ...]] = CIFAR100_LABELS
    input: ClassVar[InputSpec] = InputSpec(32, 32, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))
    published: ClassVar[Publication] = Publication(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        keys=("fine_labels",),
    )
