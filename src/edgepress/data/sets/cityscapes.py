"""Cityscapes (Cordts et al., CVPR 2016): street scenes of 50 cities, 19 classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgepress.data.base import datasets
from edgepress.data.masks import VOID, Coding
from edgepress.data.pairs import Pairs, found_below, matched
from edgepress.data.scenes import PublishedScenes, absent, root_of

LABELS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
"""The 19 classes that are scored, and their label ids among 34; the other ids are void."""

_FOLDERS = ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val")


@datasets.register("cityscapes")
@dataclass(frozen=True)
class Cityscapes(PublishedScenes):
    """Images in `root/leftImg8bit/<split>/<city>/*_leftImg8bit.png`, masks in
    `root/gtFine/<split>/<city>/*_gtFine_labelIds.png`; `val` of the training images are the validation split."""

    name: ClassVar[str] = "cityscapes"

    def coding(self) -> Coding:
        """Return what the 34 label ids (and 255) mean."""
        ids = dict.fromkeys((*range(34), VOID), VOID)
        return Coding(tuple(LABELS), {**ids, **{code: k for k, code in enumerate(LABELS.values())}})

    def pairs(self, root: Path, split: str) -> tuple[Pairs, list[str]]:
        """Return the pairs of the official `split`, and what has no partner."""
        images = found_below(root, root / "leftImg8bit" / split, "_leftImg8bit")
        return matched(images, found_below(root, root / "gtFine" / split, "_gtFine_labelIds"))

    def available(self) -> str | None:
        """Return None where all four folders are there, else what is missing."""
        return absent(root_of(self.root, self.name), self.name, _FOLDERS)
