"""The tracker `wandb`: Weights & Biases, kept on this machine or sent."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import MissingExtraError
from edgepress.train.trackers.base import FAILURES, Recorder, Tracker, Training, trackers

LONGEST = 30
"""Seconds to wait for the server before the training goes on without it."""


@trackers.register("wandb")
@dataclass(frozen=True)
class Wandb(Tracker):
    """A run of the project named here, else of the recipe's name.

    By default it is kept in `wandb/` and sent with `wandb sync`; nothing leaves this machine unasked. `mode: online`
    (or WANDB_MODE=online) sends it while the network learns, for which one must be logged in (`wandb login`).
    """

    project: str = ""
    entity: str = ""
    mode: Literal["offline", "online"] | None = None

    def open(self, training: Training) -> Recorder:
        """Start a run; raise `MissingExtraError` where the library is absent."""
        try:
            wandb: Any = importlib.import_module("wandb")
        except ModuleNotFoundError:
            raise MissingExtraError("the tracker 'wandb'", "track") from None
        mode: Any = self.mode or os.environ.get("WANDB_MODE") or "offline"
        training.folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            project=self.project or training.recipe,
            entity=self.entity or None,
            name=training.label,
            id=f"{training.label}-{training.key}",
            dir=str(training.folder),
            mode=mode,
            resume="allow",
            config=dict(training.about),
            settings=wandb.Settings(init_timeout=LONGEST, login_timeout=LONGEST, silent=True, console="off"),
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return _Run(wandb, run)

    def failures(self) -> tuple[type[Exception], ...]:
        """Return the errors that end this record and not the training."""
        try:
            errors: Any = importlib.import_module("wandb.errors")
        except ImportError:
            return FAILURES
        return (*FAILURES, errors.Error)


class _Run(Recorder):
    def __init__(self, wandb: Any, run: Any) -> None:
        self._wandb, self._run = wandb, run

    def values(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({**values, "step": step})

    def image(self, step: int, name: str, image: NDArray[np.uint8], caption: str) -> None:
        self._run.log({name: self._wandb.Image(image, caption=caption), "step": step})

    def close(self) -> None:
        self._run.finish()
