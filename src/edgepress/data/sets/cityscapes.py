"""Cityscapes (Cordts et al., CVPR 2016): street scenes of 50 cities, 19 classes."""

from dataclasses import dataclass

from edgepress.core.errors import DataError
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.masks import VOID, Coding
from edgepress.data.pairs import found_below, matched
from edgepress.data.scenes import Size, absent, check_fields, root_of, scenes

LABELS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
"""The 19 classes that are scored, and their label ids among 34; the other ids are void."""

_FOLDERS = ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val")


@datasets.register("cityscapes")
@dataclass(frozen=True)
class Cityscapes(DataSource):
    """Images in `root/leftImg8bit/<split>/<city>/*_leftImg8bit.png`, masks in
    `root/gtFine/<split>/<city>/*_gtFine_labelIds.png`; without `root`, in `$EDGEPRESS_DATA/cityscapes`.

    The official validation images are the test split, since the masks of the official test split are not published;
    `val` images are cut from train with `seed`. Everything is brought to `size` (height, width).
    """

    root: str | None = None
    size: Size = (512, 1024)
    val: int = 300
    seed: int = 0
    max_bad: float = 0.01
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_fields(self.size, self.limit, self.limit_eval, self.max_bad)
        if self.val < 1:
            raise ValueError(f"val must be at least 1 image, got {self.val}")

    def load(self) -> Data:
        """Return the data set; raise `DataError` where the folders are not there or are damaged."""
        reason, root = self.available(), root_of(self.root, "cityscapes")
        if reason or root is None:
            raise DataError(reason or "cityscapes has no folder")
        (train, lonely), (test, more) = (
            matched(
                found_below(root, root / "leftImg8bit" / split, "_leftImg8bit"),
                found_below(root, root / "gtFine" / split, "_gtFine_labelIds"),
            )
            for split in ("train", "val")
        )
        if self.val >= len(train):
            raise DataError(f"{root}: val takes {self.val} of {len(train)} training images; make it smaller")
        rest, val = train.cut(self.val, self.seed)
        splits = {
            "train": rest.thin(self.limit, self.seed),
            "val": val.thin(self.limit_eval, self.seed),
            "test": test.thin(self.limit_eval, self.seed),
        }
        return scenes("cityscapes", root, splits, coding(), self.size, alone=[*lonely, *more], max_bad=self.max_bad)

    def available(self) -> str | None:
        """Return None where all four folders are there, else what is missing."""
        return absent(root_of(self.root, "cityscapes"), "cityscapes", _FOLDERS)


def coding() -> Coding:
    """Return what the 34 label ids (and 255) mean."""
    ids = dict.fromkeys((*range(34), VOID), VOID)
    return Coding(tuple(LABELS), {**ids, **{code: k for k, code in enumerate(LABELS.values())}})
