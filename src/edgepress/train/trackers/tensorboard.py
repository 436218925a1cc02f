"""The tracker `tensorboard`: event files, shown by `tensorboard --logdir runs/recipe-NAME/track/tensorboard`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import MissingExtraError
from edgepress.train.trackers.base import Recorder, Tracker, Training, trackers


@trackers.register("tensorboard")
@dataclass(frozen=True)
class Tensorboard(Tracker):
    """Event files in `tensorboard/LABEL-KEY/`."""

    def open(self, training: Training) -> Recorder:
        """Start an event file; raise `MissingExtraError` where TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ModuleNotFoundError:
            raise MissingExtraError("the tracker 'tensorboard'", "track") from None
        folder = training.folder / "tensorboard" / f"{training.label}-{training.key}"
        # The viewer forgets what the earlier files in this folder say of the step named here and of later ones.
        writer: Any = SummaryWriter(str(folder), purge_step=training.step + 1)
        writer.add_text("about", "\n".join(f"- {name}: {value}" for name, value in training.about.items()))
        return _Events(writer)


class _Events(Recorder):
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def values(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def image(self, step: int, name: str, image: NDArray[np.uint8], caption: str) -> None:
        self._writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
