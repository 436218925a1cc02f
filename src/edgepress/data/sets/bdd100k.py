"""BDD100K, semantic segmentation (Yu et al., CVPR 2020): 7,000 and 1,000 driving scenes, the classes of Cityscapes."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgepress.data.base import datasets
from edgepress.data.masks import Coding, consecutive
from edgepress.data.pairs import Pairs, found_below, matched
from edgepress.data.scenes import PublishedScenes, Size, absent, root_of
from edgepress.data.sets.cityscapes import LABELS

_LAYOUTS = (
    ("images/10k/{}", "labels/sem_seg/masks/{}", ""),
    ("seg/images/{}", "seg/labels/{}", "_train_id"),
)
"""Folder of the images, of the masks, and how the stem of a mask ends: as published today, and before 2021."""


@datasets.register("bdd100k")
@dataclass(frozen=True)
class Bdd100k(PublishedScenes):
    """Images in `root/images/10k/<split>`, masks of ids 0 to 18 and 255 in `root/labels/sem_seg/masks/<split>`, or the
    older `root/seg/images` and `root/seg/labels`; `val` of the training images are the validation split."""

    size: Size = (360, 640)
    val: int = 500

    name: ClassVar[str] = "bdd100k"

    def coding(self) -> Coding:
        """Return what the ids of a mask mean."""
        return consecutive(tuple(LABELS))

    def pairs(self, root: Path, split: str) -> tuple[Pairs, list[str]]:
        """Return the pairs of the official `split`, and what has no partner."""
        images, masks, ending = next(one for one in _LAYOUTS if (root / one[1].format("train")).is_dir())
        found = found_below(root, root / images.format(split))
        return matched(found, found_below(root, root / masks.format(split), ending))

    def available(self) -> str | None:
        """Return None where the folders of either layout are there, else what is missing."""
        root = root_of(self.root, self.name)
        reasons = [
            absent(root, self.name, [part.format(split) for part in layout[:2] for split in ("train", "val")])
            for layout in _LAYOUTS
        ]
        return None if None in reasons else reasons[0]
