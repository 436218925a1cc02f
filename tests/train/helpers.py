"""A tiny data set in memory and a `Context` around it, for everything that trains."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgepress.core.artifact import Model
from edgepress.core.inputs import InputSpec
from edgepress.core.stage import Checkpoint, Context
from edgepress.data.arrays import ArraySplit
from edgepress.data.base import Data
from edgepress.measure.base import Quiet

SPEC = InputSpec(height=8, width=8, channels=3)


def stripes(count: int, seed: int) -> ArraySplit:
    """Two classes, horizontal and vertical stripes under noise: learnable in a few steps."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    ramp = np.tile([40, 200], 4)
    pattern = np.where(targets[:, None, None] == 0, ramp[None, :, None], ramp[None, None, :])
    images = np.clip(pattern[..., None] + rng.normal(0, 25, (count, 8, 8, 3)), 0, 255).astype(np.uint8)
    return ArraySplit(images, targets.astype(np.int64))


def tiny_data(train: int = 256) -> Data:
    """The stripes in three splits."""
    return Data(
        "stripes",
        "classification",
        ("rows", "columns"),
        SPEC,
        stripes(train, 0),
        stripes(64, 1),
        stripes(64, 2),
        "stripes-0",
    )


def tiny_net(classes: int, channels: int = 3, width: int = 8) -> nn.Module:
    """A network with batch norm and dropout, so that resuming must restore statistics and the random stream."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


NET = "train.helpers:tiny_net"


class Kept:
    """A checkpoint in memory that counts its saves and can be told to die at one of them."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.state: dict[str, Any] | None = None
        self.saves, self.dies_at = 0, dies_at

    def load(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: dict[str, Any]) -> None:
        import copy

        self.saves += 1
        self.state = copy.deepcopy(state)
        if self.saves == self.dies_at:
            raise KeyboardInterrupt


class Recorder(Quiet):
    """Remembers the labels of the loops it was shown."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def track(self, steps: Iterable, total: int, label: str) -> Iterable:
        self.labels.append(label)
        return steps


def context(
    cache: Path,
    checkpoint: Checkpoint | None = None,
    data: Data | None = None,
    seed: int = 0,
    references: dict[str, Model] | None = None,
    progress: Quiet | None = None,
    log: list | None = None,
) -> Context:
    """A context as the runner makes it, without a disk but for the cache."""
    records = log if log is not None else []

    def keep(lines: list[dict[str, Any]]) -> None:
        records[:] = lines

    return Context(
        data=data or tiny_data(),
        seed=seed,
        progress=progress or Quiet(),
        checkpoint=checkpoint or Kept(),
        log=keep,
        cache=cache,
        notes={},
        references=references or {},
    )


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """True where two networks are bit-identical."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def depthwise_net(classes: int, channels: int = 3) -> nn.Module:
    """A network with a depthwise convolution between two dense ones."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 1, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
