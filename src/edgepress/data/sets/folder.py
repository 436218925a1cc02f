"""The user's own images: one folder per class, with or without a split of their own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgepress.core.errors import DataError, suggest
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import check_limits, stratified
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.cache import digest
from edgepress.data.files import Listing, class_names, list_split, load_splits

_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names of folders that are splits wherever they occur, in any case of letters."""


@datasets.register("folder")
@dataclass(frozen=True)
class Folder(DataSource):
    """Images in `root/train/<class>/`, with `root/val` and `root/test` where there are such, or in `root/<class>/`.

    A missing validation or test split is cut from the training images, stratified with `seed`, as the share `val` or
    `test` of them. Images are brought to `size` x `size` pixels as `resize` and `crop` say (see `InputSpec`), in
    color or, with `channels: 1`, in gray. Up to the share `max_bad` of unusable images is left out. `limit` keeps
    that many images of train, `limit_eval` that many of val and of test.
    """

    root: str
    size: int = 224
    channels: Literal[1, 3] = 3
    resize: Literal["stretch", "crop"] = "crop"
    crop: float = 1.0
    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    max_bad: float = 0.01
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_limits(1, self.limit, self.limit_eval)
        if not (self.val > 0 and self.test > 0 and self.val + self.test < 1):
            raise ValueError(
                f"val and test are shares above 0 that leave some to train on, got {self.val}, {self.test}"
            )
        if not 0 <= self.max_bad < 1:
            raise ValueError(f"max_bad is a share from 0 to below 1, got {self.max_bad}")
        self._spec()

    def load(self) -> Data:
        """Return the data set; raise `DataError` for a folder without classes, a class without images, a class that
        is in val or test only, or too many unusable images."""
        root = Path(self.root).expanduser()
        labels, listings = _list(root)
        listings = self._cut(root, listings)
        limits = {"train": self.limit, "val": self.limit_eval, "test": self.limit_eval}
        kept = {split: listings[split].thin(limits[split], self.seed) for split in limits}
        spec = self._spec()
        splits, content = load_splits("folder", root, kept, labels, spec, self.max_bad)
        return Data(
            name=root.resolve().name,
            task="classification",
            labels=tuple(labels),
            input=spec,
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            fingerprint=digest("folder", content, self.size, self.channels, self.resize, self.crop),
        )

    def _cut(self, root: Path, listings: dict[str, Listing]) -> dict[str, Listing]:
        listings = dict(listings)
        whole = len(listings["train"].names)
        for split, share in (("test", self.test), ("val", self.val)):
            if split in listings:
                continue
            rest, cut = stratified(listings["train"].targets, max(1, round(share * whole)), self.seed)
            if not len(cut):
                raise DataError(f"{root}: {whole} images are too few to cut a {split} split from; add some")
            listings[split], listings["train"] = listings["train"].take(cut), listings["train"].take(rest)
        return listings

    def _spec(self) -> InputSpec:
        # The statistics of ImageNet, which pretrained networks expect; for gray images their mean over the channels.
        color = self.channels == 3
        return InputSpec(
            height=self.size,
            width=self.size,
            channels=self.channels,
            mean=(0.485, 0.456, 0.406) if color else (0.449,),
            std=(0.229, 0.224, 0.225) if color else (0.226,),
            color="RGB" if color else "L",
            resize=self.resize,
            crop=self.crop,
        )


def _list(root: Path) -> tuple[list[str], dict[str, Listing]]:
    """Return the labels and the splits that the folder itself has."""
    if not (root / "train").is_dir():
        labels = class_names(root)
        if split := next((label for label in labels if label.lower() in _SPLITS), None):
            raise DataError(
                f"{root / split} looks like a split, not a class: call the folder of the training images 'train', "
                "those of the others 'val' and 'test'"
            )
        return labels, {"train": list_split(root, root, labels, every_class=True)}
    labels = class_names(root / "train")
    listings = {"train": list_split(root, root / "train", labels, every_class=True)}
    for split, names in (("val", ("val", "valid", "validation")), ("test", ("test",))):
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is None:
            continue
        for label in class_names(folder):
            if label not in labels:
                raise DataError(f"{folder / label}: no class of that name in {root / 'train'}{suggest(label, labels)}")
        listings[split] = list_split(root, folder, labels, every_class=False)
    return labels, listings
