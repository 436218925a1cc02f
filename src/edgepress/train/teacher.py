"""A teacher: its outputs, and the features that a loss compares, from a cache or on the spot; several as one."""

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.artifact import Model
from edgepress.core.stage import Progress
from edgepress.models.inputs import normalize
from edgepress.train.companion import Companion
from edgepress.train.features import Taps
from edgepress.train.inference import fastest
from edgepress.train.loader import Batch, Loader
from edgepress.train.precision import Mode
from edgepress.train.views import OUTPUTS, Views


class Teacher(Companion):
    """Gives a batch the frozen teacher's outputs: from the cache for a fixed set of views, else computed on the spot.

    The teacher sees the same augmented pixels as the student, normalized as its own input spec says. It is frozen and
    in evaluation mode by construction: this holds a copy, and no gradient is ever recorded through it. Vectors that
    `taps` take are kept as well; where they take maps it runs on every batch, because a view of these takes gigabytes.
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
        self._views = Views(self.folder, loader, self.spec.at_once(500))

    @property
    def kept(self) -> bool:
        """True where the teacher runs once per image and view, not in every epoch."""
        return bool(self.loader.views) and (self.taps is None or self.taps.vectors)

    @property
    def trained(self) -> nn.Module | None:
        """The connectors between teacher and student."""
        return self.taps.connectors if self.taps and len(self.taps.connectors) else None

    @contextlib.contextmanager
    def attached(self, mode: Mode) -> Iterator[None]:
        """Hook both networks for the block where features are compared."""
        if self.taps or not self.kept:  # before the hooks: a choice is kept under what the network looks like
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
            self._keep(self.loader.view_of(epoch))

    def attend(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches with `teacher` filled in, and `taps` where features are compared."""
        for batch in batches:
            batch.teacher = self.answer(batch)
            if self.taps is None:
                yield batch
                continue
            if self.kept:
                self.taps.teacher.values = {path: self._read(batch, path) for path in self._names[1:]}
            batch.taps, self.taps.student.open = self.taps, True
            yield batch
            self.taps.student.open = False  # what a validation in between would leave is not of this batch

    def answer(self, batch: Batch) -> Tensor:
        """Return the teacher's outputs for `batch`, float32 or as they were kept."""
        if self.kept:
            return self._read(batch, OUTPUTS)
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

    @property
    def _names(self) -> list[str]:
        return [OUTPUTS, *(site.path for site in self.taps.teacher.sites)] if self.taps else [OUTPUTS]

    def _said(self, batch: Batch) -> dict[str, Tensor]:
        outputs = self.outputs(batch.images)
        return {OUTPUTS: outputs, **(self.taps.teacher.values if self.taps else {})}

    def _keep(self, view: int) -> None:
        missing = self._views.missing(view, self._names)
        if missing:
            begin, label = time.monotonic(), f"teacher, view {view + 1}"
            self._views.write(view, missing, self._said, lambda x, total: self.progress.track(x, total, label))
            self.seconds += time.monotonic() - begin

    def _read(self, batch: Batch, name: str) -> Tensor:
        array = self._views.array(batch.view, name)
        return torch.from_numpy(array[batch.indices.numpy()]).to(batch.images.device)


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
