"""BDD100K, semantic segmentation (Yu et al., CVPR 2020): 7,000 and 1,000 driving scenes, the classes of Cityscapes."""

from dataclasses import dataclass

from edgepress.core.errors import DataError
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.masks import consecutive
from edgepress.data.pairs import found_below, matched
from edgepress.data.scenes import Size, absent, check_fields, root_of, scenes
from edgepress.data.sets.cityscapes import LABELS

_LAYOUTS = (
    ("images/10k/{}", "labels/sem_seg/masks/{}", ""),
    ("seg/images/{}", "seg/labels/{}", "_train_id"),
)
"""Folder of the images, of the masks, and how the stem of a mask ends: as published today, and before 2021."""


@datasets.register("bdd100k")
@dataclass(frozen=True)
class Bdd100k(DataSource):
    """Images in `root/images/10k/<split>`, masks of ids 0 to 18 and 255 in `root/labels/sem_seg/masks/<split>`, or the
    older `root/seg/images` and `root/seg/labels`; without `root`, in `$EDGEPRESS_DATA/bdd100k`.

    The official validation images are the test split, since the masks of the official test split are not published;
    `val` images are cut from train with `seed`. Everything is brought to `size` (height, width).
    """

    root: str | None = None
    size: Size = (360, 640)
    val: int = 500
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
        reason, root = self.available(), root_of(self.root, "bdd100k")
        if reason or root is None:
            raise DataError(reason or "bdd100k has no folder")
        layout = next(one for one in _LAYOUTS if (root / one[1].format("train")).is_dir())
        images, masks, ending = layout
        (train, lonely), (test, more) = (
            matched(
                found_below(root, root / images.format(split)),
                found_below(root, root / masks.format(split), ending),
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
        alone = [*lonely, *more]
        return scenes("bdd100k", root, splits, consecutive(tuple(LABELS)), self.size, alone=alone, max_bad=self.max_bad)

    def available(self) -> str | None:
        """Return None where the folders of either layout are there, else what is missing."""
        root = root_of(self.root, "bdd100k")
        reasons = [
            absent(root, "bdd100k", [part.format(split) for part in layout[:2] for split in ("train", "val")])
            for layout in _LAYOUTS
        ]
        return None if None in reasons else reasons[0]
