"""CamVid road scenes (Brostow, Fauqueur and Cipolla, 2009) with the 11 classes and splits of SegNet."""

from dataclasses import dataclass
from typing import Any

from edgepress.core.errors import DataError
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.masks import consecutive
from edgepress.data.pairs import found_below, matched
from edgepress.data.scenes import Size, absent, check_fields, root_of, scenes, size_of

LABELS = (*("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),)
_FOLDERS = ("train", "trainannot", "val", "valannot", "test", "testannot")


@datasets.register("camvid")
@dataclass(frozen=True)
class CamVid(DataSource):
    """367 training, 101 validation and 233 test images in `root/train` with masks of ids in `root/trainannot`, and so
    on; without `root`, in `$EDGEPRESS_DATA/camvid`.

    Ids 0 to 10 are the classes, 11 and 255 are void. Images of any size are brought to `size` (height, width); without
    it they stay as large as the first one is. `limit` (train) and `limit_eval` (val and test) choose that many images.
    """

    root: str | None = None
    size: Size | None = None
    seed: int = 0
    max_bad: float = 0.01
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_fields(self.size, self.limit, self.limit_eval, self.max_bad)

    def load(self) -> Data:
        """Return the data set; raise `DataError` where the folders are not there or are damaged."""
        reason, root = self.available(), root_of(self.root, "camvid")
        if reason or root is None:
            raise DataError(reason or "camvid has no folder")
        splits: dict[str, Any] = {}
        alone: list[str] = []
        for split, limit in (("train", self.limit), ("val", self.limit_eval), ("test", self.limit_eval)):
            found, lonely = matched(found_below(root, root / split), found_below(root, root / f"{split}annot"))
            splits[split], alone = found.thin(limit, self.seed), alone + lonely
        size = self.size or size_of(root, splits["train"])
        coding = consecutive(LABELS, void=(len(LABELS), 255))
        return scenes("camvid", root, splits, coding, size, alone=alone, max_bad=self.max_bad)

    def available(self) -> str | None:
        """Return None where all six folders are there, else what is missing."""
        return absent(root_of(self.root, "camvid"), "camvid", _FOLDERS)
