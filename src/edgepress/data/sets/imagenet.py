"""ImageNet-1k (Russakovsky et al., 2015) in its usual folder layout, streamed."""

from dataclasses import dataclass
from pathlib import Path

from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import check_limits, stratified
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.cache import data_folder, digest
from edgepress.data.files import class_names, list_split, load_splits

_MAPPINGS = ("LOC_synset_mapping.txt", "synset_words.txt")


@datasets.register("imagenet")
@dataclass(frozen=True)
class ImageNet(DataSource):
    """Images in `root/train/<wnid>/*.JPEG` and `root/val/<wnid>/*`; without `root`, in `$EDGEPRESS_DATA/imagenet`.

    The official validation images are the test split; `val` images are cut from train, stratified with `seed`.
    Images are evaluated as usual: the shorter side to `size / crop` (256), then the centered `size` (224).
    Labels are the wnids, or the names in `LOC_synset_mapping.txt` or `synset_words.txt` where `root` has one.
    The first load reads every file once for the fingerprint; `limit` (train) and `limit_eval` (val and test each)
    choose files before that.
    """

    root: str | None = None
    size: int = 224
    crop: float = 0.875
    val: int = 10000
    seed: int = 0
    max_bad: float = 0.01
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_limits(self.val, self.limit, self.limit_eval)
        if not 0 <= self.max_bad < 1:
            raise ValueError(f"max_bad is a share from 0 to below 1, got {self.max_bad}")
        self._spec()

    def load(self) -> Data:
        """Return the data set; raise `DataError` where the folders are not there or are damaged."""
        reason = self.available()
        root = self._root()
        if reason or root is None:
            raise DataError(reason or "imagenet has no folder")
        wnids = class_names(root / "train")
        unknown = sorted(set(class_names(root / "val")) ^ set(wnids))
        if unknown:
            raise DataError(f"{root}: train and val do not have the same classes; {unknown[0]} is in one of them only")
        train = list_split(root, root / "train", wnids, every_class=True)
        test = list_split(root, root / "val", wnids, every_class=True)
        if self.val > len(train.names) - len(wnids):
            raise DataError(f"{root}: val takes {self.val} of {len(train.names)} training images; make it smaller")
        rest, cut = stratified(train.targets, self.val, self.seed)
        listings = {
            "train": train.take(rest).thin(self.limit, self.seed),
            "val": train.take(cut).thin(self.limit_eval, self.seed),
            "test": test.thin(self.limit_eval, self.seed),
        }
        labels, spec = _labels(root, wnids), self._spec()
        splits, content = load_splits("imagenet", root, listings, labels, spec, self.max_bad, decode_check=False)
        return Data(
            name="imagenet",
            task="classification",
            labels=tuple(labels),
            input=spec,
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            fingerprint=digest("imagenet", content, self.size, self.crop),
        )

    def available(self) -> str | None:
        """Return None where both folders exist, else what is missing."""
        root = self._root()
        if root is None:
            return "imagenet is not on this machine: set its field 'root', or EDGEPRESS_DATA to the folder above it"
        missing = [str(root / split) for split in ("train", "val") if not (root / split).is_dir()]
        return (
            f"imagenet needs the folders train/<wnid>/ and val/<wnid>/: no {' and no '.join(missing)}"
            if missing
            else None
        )

    def _root(self) -> Path | None:
        if self.root is not None:
            return Path(self.root).expanduser()
        given = data_folder()
        return given / "imagenet" if given else None

    def _spec(self) -> InputSpec:
        return InputSpec(
            height=self.size,
            width=self.size,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            resize="crop",
            crop=self.crop,
        )


def _labels(root: Path, wnids: list[str]) -> list[str]:
    """Return a readable and distinct label per wnid ("crane" is two classes: the second keeps its wnid)."""
    file = next((root / name for name in _MAPPINGS if (root / name).is_file()), None)
    if file is None:
        return wnids
    lines = [line.split(maxsplit=1) for line in file.read_text("utf-8").splitlines()]
    names = {parts[0]: parts[1].strip() for parts in lines if len(parts) == 2}
    labels: list[str] = []
    for wnid in wnids:
        label = names.get(wnid, wnid)
        labels.append(label if label not in labels else f"{label} ({wnid})")
    return labels
