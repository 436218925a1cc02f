"""What a teacher says of a split in a fixed set of augmentation views: kept on disk as FP16, read where needed."""

import contextlib
import itertools
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgepress.core.errors import TrainingError
from edgepress.core.files import atomic_write
from edgepress.train.loader import Batch, Loader

OUTPUTS = "outputs"
Kept = NDArray[np.float16]


class Views:
    """Arrays `(images, ...)` by view and name: `OUTPUTS`, or the path of the module whose features they hold."""

    def __init__(self, folder: Path, loader: Loader, at_once: int) -> None:
        self.folder, self.loader, self._at_once = folder, loader, at_once
        self._opened: dict[Path, Kept] = {}

    def missing(self, view: int, names: Sequence[str]) -> list[str]:
        """Return those of the names that nobody has written yet."""
        return [name for name in names if not self._path(view, name).exists()]

    def array(self, view: int, name: str) -> Kept:
        """Return what is kept, mapped from its file."""
        path = self._path(view, name)
        if path not in self._opened:
            self._opened[path] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._opened[path]

    def write(
        self,
        view: int,
        names: Sequence[str],
        said: Callable[[Batch], Mapping[str, Tensor]],
        track: Callable[[Iterable[Batch], int], Iterable[Batch]],
    ) -> None:
        """Write what `said` answers to every image in `view`; `track` shows how far it is of so many batches."""
        images = len(self.loader.split)
        batches = track(self.loader.in_order(view, batch=self._at_once), -(-images // self._at_once))
        answers = (said(batch) for batch in batches)
        parts = ({name: halves(answer[name].cpu().numpy()) for name in names} for answer in answers)
        first = next(parts)
        size = sum(2 * images * math.prod(part.shape[1:]) for part in first.values())
        require_room(self.folder, self.loader.views * size, self.loader.views)
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(atomic_write(self._path(view, name), first=True)) for name in names}
            for name, part in first.items():
                about: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": (images, *part.shape[1:])}
                np.lib.format.write_array_header_1_0(files[name], about)
            for each in itertools.chain([first], parts):
                for name, part in each.items():
                    files[name].write(np.ascontiguousarray(part).tobytes())

    def _path(self, view: int, name: str) -> Path:
        ending = "" if name == OUTPUTS else "-" + name.replace(":", "-")
        return self.folder / f"view-{view:03d}{ending}.npy"


def require_room(folder: Path, size: int, views: int) -> None:
    """Raise `TrainingError` where a teacher's outputs, `size` bytes for all `views`, are more than the disk has left
    and there is none of them yet."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not any(folder.glob("view-*.npy")) and size > free:
        raise TrainingError(
            f"the teacher's outputs for {views} views take {size / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB "
            "left: set fewer 'views', or 'views: 0' to run the teacher on every batch"
        )


def halves(outputs: NDArray[np.floating]) -> NDArray[np.float16]:
    """Return outputs as FP16, those beyond its range as its largest; raise `TrainingError` on NaN."""
    if np.isnan(outputs).any():
        raise TrainingError("the teacher's outputs are not numbers (NaN): look at its own training, or its weights")
    if outputs.dtype == np.float16:
        return outputs
    largest = np.finfo(np.float16).max
    return outputs.clip(-largest, largest).astype(np.float16)
