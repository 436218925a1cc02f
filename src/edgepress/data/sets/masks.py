"""The user's own images with a mask each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepress.core.errors import DataError
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.images import BadImageError, in_threads
from edgepress.data.masks import IDS, VOID, Coding, codes_of, open_mask
from edgepress.data.pairs import Pairs, Unknown, found_below, matched
from edgepress.data.scenes import Size, check_fields, scenes, size_of

_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@datasets.register("masks")
@dataclass(frozen=True)
class Masks(DataSource):
    """Images in `root/images` and their masks, of the same names, in `root/masks`; or both below `root/train`, with
    `root/val` and `root/test` where there are such. A missing split is cut from train with `seed`, as the share `val`
    or `test`.

    A mask holds an id per pixel (gray or palette PNG), or a color where `colors` gives one per label (`"#804080"` or
    `[128, 64, 128]`). `labels` are the names of the classes, `ids` their ids where these are not 0, 1, 2 ...; without
    `labels` the lines of `root/labels.txt`, else the ids that occur. Pixels of the ids (or colors) `void` do not count.
    Ids that belong to no class are an error that counts them, or void with `unknown: void`.
    """

    root: str
    size: Size | None = None
    labels: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    colors: tuple[str | tuple[int, int, int], ...] = ()
    void: tuple[int | str | tuple[int, int, int], ...] = (VOID,)
    unknown: Unknown = "error"
    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    max_bad: float = 0.01
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_fields(self.size, self.limit, self.limit_eval, self.max_bad)
        if not (self.val > 0 and self.test > 0 and self.val + self.test < 1):
            raise ValueError(f"val and test are shares above 0, together below 1, got {self.val} and {self.test}")
        for name, given in (("ids", self.ids), ("colors", self.colors)):
            if given and (len(given) != len(self.labels) or len(set(given)) != len(given)):
                raise ValueError(f"{name} must name one of its own for each of {len(self.labels)} labels, got {given}")
        if self.ids and self.colors:
            raise ValueError("a mask holds ids or colors, not both")
        ids = self.ids or range(len(self.labels))
        named = {_color(color) for color in self.colors} if self.colors else {_id(code) for code in ids}
        if both := [code for code in self._void() if code in named]:
            raise ValueError(f"{both[0]} is given to a label and is void: a code is the one or the other")

    def load(self) -> Data:
        """Return the data set; raise `DataError` for missing folders, unknown ids, or too many unusable pairs."""
        root = Path(self.root).expanduser()
        splits, alone = _listed(root)
        whole = splits["train"]
        for split, share in (("test", self.test), ("val", self.val)):
            if split not in splits:
                count = max(1, round(share * len(whole)))
                if count >= len(splits["train"]):
                    raise DataError(f"{root}: {len(whole)} pairs are too few to cut a {split} split from; add some")
                splits["train"], splits[split] = splits["train"].cut(count, self.seed)
        limits = {"train": self.limit, "val": self.limit_eval, "test": self.limit_eval}
        kept = {split: splits[split].thin(limits[split], self.seed) for split in limits}
        size = self.size or size_of(root, kept["train"])
        return scenes(
            "masks",
            root,
            kept,
            self._coding(root, whole),
            size,
            alone=alone,
            max_bad=self.max_bad,
            unknown=self.unknown,
        )

    def _void(self) -> dict[int, int]:
        """Return the codes of no class; the default is an id, and stands for none where masks hold colors."""
        if self.colors:
            return {} if self.void == (VOID,) else {_color(color): VOID for color in self.void}
        return {_id(code): VOID for code in self.void}

    def _coding(self, root: Path, pairs: Pairs) -> Coding:
        if self.colors:
            classes = {_color(c): k for k, c in enumerate(self.colors)}
            return Coding(self.labels, {**self._void(), **classes}, colored=True)
        void = self._void()
        labels = self.labels or _from_file(root)
        ids = self.ids or (tuple(range(len(labels))) if labels else _occurring(root, pairs, void))
        return Coding(labels or tuple(map(str, ids)), {**void, **{code: k for k, code in enumerate(ids)}})


def _listed(root: Path) -> tuple[dict[str, Pairs], list[str]]:
    """Return the splits that the folder itself has, and what has no partner."""
    folders = {split: next((root / n for n in names if (root / n).is_dir()), None) for split, names in _SPLITS.items()}
    if folders["train"] is None:
        folders = {"train": root}
    splits: dict[str, Pairs] = {}
    alone: list[str] = []
    for split, folder in folders.items():
        if folder is not None:
            for name in ("images", "masks"):
                if not (folder / name).is_dir():
                    raise DataError(f"{folder} has no folder {name!r}; expected images/ and masks/ with equal names")
            splits[split], lonely = matched(found_below(root, folder / "images"), found_below(root, folder / "masks"))
            alone += lonely
            if not len(splits[split]):
                raise DataError(f"{folder} holds no image with a mask of its name" + _some(lonely))
    return splits, alone


def _some(lonely: list[str]) -> str:
    return f", for example: {lonely[0]}" if lonely else ""


def _from_file(root: Path) -> tuple[str, ...]:
    path = root / "labels.txt"
    if not path.is_file():
        return ()
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}): save it as such"
        ) from error
    return tuple(line.strip() for line in lines if line.strip())


def _occurring(root: Path, pairs: Pairs, void: Mapping[int, int]) -> tuple[int, ...]:
    """Return the ids in the masks of `pairs` that are not void, sorted. A mask that cannot be used is passed over."""
    reasons: list[str] = []

    def ids(place: int) -> set[int]:
        try:
            return set(np.unique(codes_of(open_mask(root / pairs.masks[place]))).tolist())
        except BadImageError as error:
            reasons.append(f"{root / pairs.masks[place]} {error}")
            return set()

    found = set().union(*in_threads(ids, len(pairs)))
    if len(reasons) == len(pairs):
        raise DataError(f"{root}: not one mask can be used; {reasons[0]}")
    if not found - void.keys():
        raise DataError(f"{root}: the masks hold nothing but void")
    return tuple(sorted(found - void.keys()))


def _id(given: int | str | tuple[int, int, int]) -> int:
    """Return an id; `ValueError` where it is none."""
    if not isinstance(given, int) or not 0 <= given < IDS:
        raise ValueError(f"an id is a number from 0 to {IDS - 1}, got {given!r}")
    return given


def _color(given: int | str | tuple[int, int, int]) -> int:
    """Return a color as one number; `ValueError` where it is none."""
    if isinstance(given, int):
        raise ValueError(f"a color is written '#804080' or [128, 64, 128], got {given}")
    if isinstance(given, str):
        digits = given.removeprefix("#")
        if len(digits) != 6 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise ValueError(f"a color is written '#804080' or [128, 64, 128], got {given!r}")
        return int(digits, 16)
    if not all(0 <= part <= 255 for part in given):
        raise ValueError(f"the parts of a color lie in 0..255, got {list(given)}")
    return given[0] << 16 | given[1] << 8 | given[2]
