"""A teacher's outputs, computed once per augmentation view and kept on disk as FP16; its features, as needed."""

import contextlib
import copy
import hashlib
import itertools
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepress.core.artifact import Model
from edgepress.core.errors import TrainingError
from edgepress.core.files import atomic_write
from edgepress.core.stage import Progress
from edgepress.models.inputs import normalize
from edgepress.train.companion import Companion
from edgepress.train.features import Taps
from edgepress.train.inference import fastest
from edgepress.train.loader import Batch, Loader
from edgepress.train.precision import Mode


class Teacher(Companion):
    """Gives a batch the frozen teacher's outputs: from the cache for a fixed set of views, else computed on the spot.

    The teacher sees the same augmented pixels as the student, normalized as its own input spec says. It is frozen and
    in evaluation mode by construction: this holds a copy, and no gradient is ever recorded through it. With `taps` it
    runs on every batch, because features are not kept.
    """

    def __init__(self, model: Model, loader: Loader, fingerprint: str, cache: Path, progress: Progress) -> None:
        self.loader, self.progress, self.spec, self._cache = loader, progress, model.signature.input, cache
        self.module = copy.deepcopy(model.module).to(loader.device).eval().requires_grad_(False)
        self.taps: Taps | None = None
        self.seconds = 0.0
        """Spent on running the teacher on training images, before a kill and after it."""
        self._mode: Mode | None = None
        facts = [_content(self.module), self.spec.mean, self.spec.std, fingerprint, loader.augment.facts()]
        name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        self.folder = cache / "teacher" / name
        self._views: dict[int, np.ndarray] = {}

    @property
    def kept(self) -> bool:
        """True where the teacher runs once per image and view, not in every epoch."""
        return bool(self.loader.views) and self.taps is None

    @property
    def trained(self) -> nn.Module | None:
        """The connectors between teacher and student."""
        return self.taps.connectors if self.taps and len(self.taps.connectors) else None

    @contextlib.contextmanager
    def attached(self, mode: Mode) -> Iterator[None]:
        """Hook both networks for the block where features are compared."""
        if not self.kept:  # before the hooks: a choice is kept under what the network looks like
            self._mode = Mode(**self.ranks.agreed(lambda: asdict(self.mode())))
        if self.taps is None:
            yield
            return
        self.taps.arithmetic = lambda: mode.autocast(self.loader.device)
        with self.taps.student.attached(), self.taps.teacher.attached():
            yield

    def prepare(self, epoch: int) -> None:
        """Make sure that the view which `epoch` shows is in the cache."""
        if self.kept:
            self._view(self.loader.view_of(epoch))

    def attend(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches with `teacher` filled in, and `taps` where features are compared."""
        for batch in batches:
            batch.teacher = self.answer(batch)
            if self.taps is None:
                yield batch
                continue
            batch.taps, self.taps.student.open = self.taps, True
            yield batch
            self.taps.student.open = False  # what a validation in between would leave is not of this batch

    def answer(self, batch: Batch) -> Tensor:
        """Return the teacher's outputs for `batch`, float32 or as they were kept."""
        if self.kept:
            outputs = self._view(batch.view)[batch.indices.numpy()]
            return torch.from_numpy(outputs).to(batch.images.device)
        begin = time.monotonic()
        outputs = self.outputs(batch.shown)
        waited(outputs.device)
        self.seconds += time.monotonic() - begin
        return outputs

    def mode(self) -> Mode:
        """Return the arithmetic the teacher answers in, chosen at the first call."""
        if self._mode is None:
            self._mode = fastest(self.module, self.spec, self.spec.at_once(128), self.loader.device, self._cache)
        return self._mode

    def outputs(self, images: Tensor) -> Tensor:
        """Return float32 outputs for images `(n, C, H, W)` of the range of uint8; the features go to the taps."""
        mode = self.mode()
        tap = self.taps.teacher if self.taps else None
        if tap:
            tap.open = True
        with torch.inference_mode(), mode.applied(self.module), mode.autocast(images.device):
            outputs = self.module(mode.place(normalize(images, self.spec))).float()
        if tap:
            tap.open = False
            tap.values = {path: _usable(value) for path, value in tap.values.items()}
        return outputs.clone()

    def state_dict(self) -> dict[str, Any]:
        """Return the connectors and the teacher's arithmetic: a resumed training goes on as it began."""
        connectors = self.taps.connectors.state_dict() if self.taps else {}
        mode = asdict(self._mode) if self._mode else {}
        return {"mode": mode, "connectors": dict(connectors), "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state; a state from before there were connectors holds nothing."""
        if state.get("mode"):
            self._mode = Mode(**state["mode"])
        self.seconds = state.get("seconds", 0.0)
        if self.taps and "connectors" in state:
            self.taps.connectors.load_state_dict(state["connectors"])

    def _view(self, view: int) -> np.ndarray:
        if view not in self._views:
            path = self.folder / f"view-{view:03d}.npy"
            if not path.exists():
                self._compute(view, path)
            self._views[view] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._views[view]

    def _compute(self, view: int, path: Path) -> None:
        at_once = self.spec.at_once(500)
        batches = self.loader.in_order(view, batch=at_once)
        total = -(-len(self.loader.split) // at_once)
        label, begin = f"teacher, view {view + 1}", time.monotonic()
        parts = (halves(self.outputs(b.images).cpu().numpy()) for b in self.progress.track(batches, total, label))
        first = next(parts)
        shape = (len(self.loader.split), *first.shape[1:])
        require_room(path.parent, self.loader.views * 2 * math.prod(shape), self.loader.views)
        with atomic_write(path, first=True) as file:
            about: dict[str, Any] = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, about)
            for part in itertools.chain([first], parts):
                file.write(np.ascontiguousarray(part).tobytes())
        self.seconds += time.monotonic() - begin


class Teachers(Companion):
    """Several teachers as one: the weighted mean of their logits, image by image (pixel by pixel).

    Softened at any temperature that is the normalized geometric mean of their probabilities. With `confidence` each
    image weighs its teachers by how well they know its label: `(1 - exp(L_k) / sum_j exp(L_j)) / (K - 1)` times the
    given weight, where `L_k` is the cross-entropy of teacher k (Zhang et al., "Confidence-Aware Multi-Teacher Knowledge
    Distillation", ICASSP 2022).
    """

    def __init__(self, teachers: list[Teacher], weights: tuple[float, ...], confidence: bool) -> None:
        self.teachers, self.confidence = teachers, confidence
        self.weights = weights or (1.0,) * len(teachers)

    @contextlib.contextmanager
    def attached(self, mode: Mode) -> Iterator[None]:
        """Let every teacher hold what it needs."""
        with contextlib.ExitStack() as stack:
            for teacher in self.teachers:
                teacher.ranks = self.ranks
                stack.enter_context(teacher.attached(mode))
            yield

    def prepare(self, epoch: int) -> None:
        """Make sure that every teacher's view is in the cache."""
        for teacher in self.teachers:
            teacher.prepare(epoch)

    def attend(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches with `teacher` filled in."""
        for batch in batches:
            batch.teacher = self.mixed([teacher.answer(batch) for teacher in self.teachers], batch.targets)
            yield batch

    def mixed(self, logits: list[Tensor], targets: Tensor) -> Tensor:
        """Return the weighted mean of logits `(N, classes, ...)`; targets `(N, ...)` may be void."""
        stacked = torch.stack([x.float() for x in logits])
        weights = torch.tensor(self.weights, device=stacked.device).view(-1, *(1,) * (stacked.ndim - 1))
        if self.confidence and len(logits) > 1:
            losses = torch.stack([_losses(x, targets) for x in stacked])
            weights = weights * ((1 - losses.softmax(0)) / (len(logits) - 1)).unsqueeze(2)
        return (stacked * weights).sum(0) / weights.sum(0)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all teachers."""
        return {str(number): teacher.state_dict() for number, teacher in enumerate(self.teachers)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to saved states."""
        for number, teacher in enumerate(self.teachers):
            teacher.load_state_dict(state.get(str(number), {}))

    def outputs(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mixed outputs for images that are in no cache."""
        return self.mixed([teacher.outputs(images) for teacher in self.teachers], targets)


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of every image or pixel, 0 where the target is no class."""
    counted = (targets >= 0) & (targets < logits.shape[1])
    picked = logits.log_softmax(1).gather(1, targets.where(counted, 0).unsqueeze(1))[:, 0]
    return -picked * counted


def waited(device: torch.device) -> None:
    """Wait until what a graphics card was given is done: its calls return before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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


def _content(module: nn.Module) -> str:
    """Return what tells a network from another one: a hash of its weights. The key of the stage that trained it is not
    enough: trained anew, elsewhere, it has the same key and other weights."""
    found = hashlib.sha256(str(module).encode())
    for value in module.state_dict().values():
        found.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _usable(value: Tensor) -> Tensor:
    """Return a float32 tensor that the student's gradient may be recorded with."""
    return value.clone() if value.dtype == torch.float32 else value.float()
