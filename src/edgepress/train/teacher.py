"""A teacher's outputs, computed once per augmentation view and kept on disk as FP16."""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edgepress.core.artifact import Model
from edgepress.core.files import atomic_write
from edgepress.core.stage import Progress
from edgepress.models.inputs import normalize
from edgepress.train.loader import Batch, Loader
from edgepress.train.precision import Mode, choose


class Teacher:
    """Gives a batch the frozen teacher's outputs: from the cache for a fixed set of views, else computed on the spot.

    The teacher sees the same augmented pixels as the student, normalized as its own input spec says. It is frozen and
    in evaluation mode by construction: this holds a copy, and no gradient is ever recorded through it.
    """

    def __init__(self, model: Model, loader: Loader, fingerprint: str, cache: Path, progress: Progress) -> None:
        self.loader, self.progress, self._spec, self._cache = loader, progress, model.signature.input, cache
        self._module = copy.deepcopy(model.module).to(loader.device).eval()
        self._mode: Mode | None = None
        facts = [model.key, fingerprint, asdict(loader.augment)]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        self.folder = cache / "teacher" / name
        self._views: dict[int, np.ndarray] = {}

    def prepare(self, epoch: int) -> None:
        """Make sure that the view which `epoch` shows is in the cache."""
        if self.loader.views:
            self._view(self.loader.view_of(epoch))

    def attend(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches with `teacher` filled in."""
        for batch in batches:
            if self.loader.views:
                kept = self._view(batch.view)[batch.indices.numpy()]
                batch.teacher = torch.from_numpy(kept).to(batch.images.device)
            else:
                batch.teacher = self._outputs(batch.images)
            yield batch

    def _view(self, view: int) -> np.ndarray:
        if view not in self._views:
            path = self.folder / f"view-{view:03d}.npy"
            if not path.exists():
                self._compute(view, path)
            self._views[view] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._views[view]

    def _compute(self, view: int, path: Path) -> None:
        batches = self.loader.in_order(view, batch=500)
        total = -(-len(self.loader.split) // 500)
        label = f"teacher, view {view + 1}"
        parts = [self._outputs(b.images).half().cpu().numpy() for b in self.progress.track(batches, total, label)]
        with atomic_write(path) as file:
            np.save(file, np.concatenate(parts), allow_pickle=False)

    def _outputs(self, images: Tensor) -> Tensor:
        if self._mode is None:
            self._mode = choose(self._module, self._spec, 128, "auto", images.device, self._cache)
        with torch.inference_mode(), self._mode.applied(self._module), self._mode.autocast(images.device):
            outputs = self._module(self._mode.place(normalize(images, self._spec))).float()
        return outputs.clone()
