"""What the data sets of images with masks share: their input, the checks of their fields, and the last step."""

import contextlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.base import Data, DataSource
from edgepress.data.cache import data_folder, digest
from edgepress.data.images import BadImageError, open_image
from edgepress.data.masks import Coding
from edgepress.data.pairs import Pairs, Unknown, load_pairs

Size = tuple[int, int]
"""Height and width in pixels."""


def scene_spec(size: Size) -> InputSpec:
    """Return the input of a network for images of `size`, normalized as pretrained networks expect (ImageNet)."""
    return InputSpec(size[0], size[1], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def check_fields(size: Size | None, limit: int | None, limit_eval: int | None, max_bad: float) -> None:
    """Raise `ValueError` for fields that make no sense."""
    if size is not None and min(size) < 8:
        raise ValueError(f"size is (height, width) of at least 8 pixels each, got {list(size)}")
    for name, value in (("limit", limit), ("limit_eval", limit_eval)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, or null for all images, got {value}")
    if not 0 <= max_bad < 1:
        raise ValueError(f"max_bad is a share from 0 to below 1, got {max_bad}")


def root_of(given: str | None, name: str) -> Path | None:
    """Return the folder `given`, or `name` below `$EDGEPRESS_DATA`; None where neither is known."""
    if given is not None:
        return Path(given).expanduser()
    folder = data_folder()
    return folder / name if folder else None


def absent(root: Path | None, name: str, folders: Sequence[str]) -> str | None:
    """Return why the data set cannot be loaded, None where all `folders` are there."""
    if root is None:
        return f"{name} is not on this machine: set its field 'root', or EDGEPRESS_DATA to the folder above it"
    missing = [str(root / folder) for folder in folders if not (root / folder).is_dir()]
    return f"{name} needs the folders {', '.join(folders)}: no {' and no '.join(missing)}" if missing else None


def size_of(root: Path, pairs: Pairs) -> Size:
    """Return the size of the first image that can be opened: what a network sees where no size is asked for."""
    for file in pairs.images:
        with contextlib.suppress(BadImageError):
            width, height = open_image(root / file).size
            return height, width
    raise DataError(f"{root} holds no image with a mask that can be opened")


def scenes(
    name: str,
    root: Path,
    splits: Mapping[str, Pairs],
    coding: Coding,
    size: Size,
    *,
    alone: Sequence[str] = (),
    max_bad: float = 0.01,
    unknown: Unknown = "error",
) -> Data:
    """Return the data set of these pairs at `size`; see `load_pairs` for what it raises."""
    spec = scene_spec(size)
    loaded, content = load_pairs(name, root, splits, coding, spec, alone=alone, max_bad=max_bad, unknown=unknown)
    return Data(
        name=name,
        task="segmentation",
        labels=coding.labels,
        input=spec,
        train=loaded["train"],
        val=loaded["val"],
        test=loaded["test"],
        fingerprint=digest(name, content, list(size), unknown),
    )


@dataclass(frozen=True)
class PublishedScenes(DataSource):
    """Fields and loading of data sets whose official test masks are not published.

    The official validation images are the test split; `val` images are cut from train with `seed`. `root` is the
    folder to read, by default the data set's name below `$EDGEPRESS_DATA`. Everything is brought to `size` (height,
    width).
    """

    root: str | None = None
    size: Size = (512, 1024)
    val: int = 300
    seed: int = 0
    max_bad: float = 0.01
    limit: int | None = None
    limit_eval: int | None = None

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self.size, self.limit, self.limit_eval, self.max_bad)
        if self.val < 1:
            raise ValueError(f"val must be at least 1 image, got {self.val}")

    @abstractmethod
    def coding(self) -> Coding:
        """Return what the ids of a mask mean."""

    @abstractmethod
    def pairs(self, root: Path, split: str) -> tuple[Pairs, list[str]]:
        """Return the pairs of the official `split`, "train" or "val", and what has no partner."""

    def load(self) -> Data:
        """Return the data set; raise `DataError` where the folders are not there or are damaged."""
        reason, root = self.available(), root_of(self.root, self.name)
        if reason or root is None:
            raise DataError(reason or f"{self.name} has no folder")
        (train, lonely), (test, more) = self.pairs(root, "train"), self.pairs(root, "val")
        if self.val >= len(train):
            raise DataError(f"{root}: val takes {self.val} of {len(train)} training images; make it smaller")
        rest, val = train.cut(self.val, self.seed)
        splits = {
            "train": rest.thin(self.limit, self.seed),
            "val": val.thin(self.limit_eval, self.seed),
            "test": test.thin(self.limit_eval, self.seed),
        }
        alone = [*lonely, *more]
        return scenes(self.name, root, splits, self.coding(), self.size, alone=alone, max_bad=self.max_bad)
