"""Looks on while a network is trained and tells the trackers. Whatever fails there is warned of and costs a record."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepress.core.errors import EdgepressError
from edgepress.core.stage import Progress
from edgepress.data.base import Data, spread
from edgepress.train.layers import look_at
from edgepress.train.pictures import Picture, classified, segmented
from edgepress.train.track import Track
from edgepress.train.trackers.base import Recorder, Tracker, Training
from edgepress.train.usage import Usage

FOLDER = "track"
LAYER_IMAGES = 32
"""Validation images that the statistics of layers are taken over."""


class TrackedRun:
    """The `core.stage.Observer` of one training: `label` of the recipe whose folder is `folder`."""

    def __init__(
        self, track: Track, recipe: str, label: str, key: str, folder: Path, data: Data, progress: Progress
    ) -> None:
        self.track, self.every, self.data, self.progress = track, track.every, data, progress
        self._training = Training(recipe, label, key, folder / FOLDER)
        self._recorders: dict[str, tuple[Tracker, Recorder]] = {}
        self._usage = Usage()
        self._layers = track.layers

    def begin(self, step: int, about: dict[str, Any]) -> None:
        """Open the trackers; one that cannot be opened is warned of."""
        first = self._training
        training = Training(first.recipe, first.label, first.key, first.folder, step, about)
        for name, tracker in self.track.named().items():
            try:
                self._recorders[name] = tracker, tracker.open(training)
            except tracker.failures() as error:
                self._warn(name, error)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Tell of the losses, the rate, the speed and what the machine is busy with."""
        named = {f"train/{name}": value for name, value in values.items()}
        self._tell(lambda recorder: recorder.values(step, {**named, **self._usage.values()}))

    def epoch(self, step: int, record: dict[str, Any], predict: Callable[[Tensor], Tensor], module: nn.Module) -> None:
        """Tell of an epoch's means and scores, and show the network where an image is due."""
        flat: dict[str, float] = {}
        for name, value in record.items():
            if isinstance(value, dict):
                flat |= {f"{name}/{inner}": number for inner, number in value.items()}
            elif isinstance(value, int | float):
                flat[f"epoch/{name}"] = value
        self._tell(lambda recorder: recorder.values(step, flat))
        if self.track.epochs and record["epoch"] % self.track.epochs == 0:
            self.images(step, predict, module)

    def wants_images(self, step: int) -> bool:
        """Return whether `step` is one of those asked for."""
        return step in self.track.at

    def images(self, step: int, predict: Callable[[Tensor], Tensor], module: nn.Module) -> None:
        """Show validation images with what the network says of them, and the layers asked for."""
        if not self._recorders or not len(self.data.val):
            return
        count = min(len(self.data.val), LAYER_IMAGES if self._layers else self.track.samples)
        raw, targets = self.data.val.read(spread(self.data.val, count))
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        images = torch.from_numpy(raw).permute(0, 3, 1, 2).to(device)
        if self.track.samples and count:
            shown = slice(0, self.track.samples)
            outputs = predict(images[shown]).cpu().numpy()
            picture = sample_picture(self.data, raw[shown], targets[shown], outputs)
            if picture is not None:
                self._tell(lambda recorder: recorder.image(step, "samples", picture, f"after step {step}"))
        if self._layers:
            self._show_layers(step, lambda: predict(images), module)

    def _show_layers(self, step: int, run: Callable[[], object], module: nn.Module) -> None:
        try:
            layers = look_at(module, self._layers, run, self.data.input.height == self.data.input.width)
        except EdgepressError as error:
            self.progress.say(f"warning: no layers are shown: {error}")
            self._layers = ()
            return
        for layer in layers:
            picture, size = layer.picture(), "x".join(map(str, layer.shape))
            words = f"{size}, mean {layer.mean:.3g}, std {layer.std:.3g}, {layer.zeros:.0f} % zeros"
            words += f", {len(layer.dead)} dead channels"
            self._tell(lambda recorder, p=picture, n=layer.path, w=words: recorder.image(step, f"layers/{n}", p, w))
        numbers = {f"dead/{layer.path}": float(len(layer.dead)) for layer in layers}
        self._tell(lambda recorder: recorder.values(step, numbers))

    def end(self) -> None:
        """Close the trackers."""
        self._tell(lambda recorder: recorder.close())
        self._recorders = {}

    def _tell(self, what: Callable[[Recorder], None]) -> None:
        for name, (tracker, recorder) in list(self._recorders.items()):
            try:
                what(recorder)
            except tracker.failures() as error:
                del self._recorders[name]
                self._warn(name, error)

    def _warn(self, name: str, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        self.progress.say(f"warning: the tracker {name!r} is left out, the training goes on: {reason}")


def sample_picture(
    data: Data, images: NDArray[np.uint8], targets: NDArray[np.int64], outputs: NDArray[np.float32]
) -> Picture | None:
    """Return images `(n, H, W, channels)` with what the outputs say of them and what is right; None where the answer of
    a task is neither a class nor a class map."""
    if outputs.ndim == 4 and targets.ndim == 3:
        return segmented(images, targets, outputs.argmax(1), data.labels)
    if outputs.ndim != 2 or targets.ndim != 1:
        return None
    pairs = zip(outputs.argmax(1), targets, strict=True)
    return classified(images, [_said(data.labels, int(found), int(target)) for found, target in pairs])


def _said(labels: tuple[str, ...], found: int, target: int) -> tuple[str, bool]:
    """Return the words under an image, and whether they are right."""
    if found == target or target >= len(labels):
        return labels[found], found == target
    return f"{labels[found]}, is {labels[target]}", False
