"""`train-<model>`: images a second of our training loop over those of the plain PyTorch loop, side by side.

Both train the same network in batches of 128 on the full CIFAR-10 train split, augmentation included, in turns (ours,
peer, ours, peer ...) with the same number of threads. A turn is `STEPS` steps after `WARM` untimed ones; the start of
the peer's workers and our first look at the data fall into those. Our precision is chosen by `fit`, the peer's is FP32.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.base import Options
from benchmarks.peers import plain_pytorch
from edgepress.core.stage import Context
from edgepress.data.base import Data
from edgepress.data.load import load_data
from edgepress.measure.base import Quiet
from edgepress.measure.rows import Row
from edgepress.models.build import new_model
from edgepress.train.stages import Train
from edgepress.train.state import NoCheckpoint

PARTS = "networks"
"""What `--parts` chooses among."""

MODELS = {
    "mobilenet_v3_small": "mobilenet_v3_small",
    "resnet20": "cifar_resnet20",
    "resnet8": "cifar_resnet8",
    "vgg11": "vgg11",
}
"""Registered names, by those that the rows carry."""
BATCH, STEPS, WARM, ROUNDS = 128, 60, 5, 3

T = TypeVar("T")


class Enough(Exception):
    """Ends a training once it has been timed."""


class Stopwatch(Quiet):
    """A `Progress` that times `steps` training steps after `warm` untimed ones, then raises `Enough`."""

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps, self.seconds = warm, steps, 0.0

    def track(self, steps: Iterable[T], total: int, label: str) -> Iterator[T]:
        """Yield from `steps`; the time between two batches is that of a whole step, loading included."""
        begin = 0.0
        for number, step in enumerate(steps):
            # A batch has been loaded and none of it computed: whole steps lie between two such moments.
            if number == self.warm:
                begin = time.perf_counter()
            elif number == self.warm + self.steps:
                self.seconds = time.perf_counter() - begin
                raise Enough
            yield step


def measure(options: Options) -> list[Row]:
    """Return for every model the speed-up and both speeds."""
    source = {"synthetic": {"classes": 10, "train": 2000}} if options.quick else {"cifar10": {}}
    data = load_data(source)
    models = ["resnet20"] if options.quick else options.wanted(list(MODELS))
    steps, rounds = (6, 2) if options.quick else (STEPS, ROUNDS)
    return [row for name in models for row in compare(name, data, steps, rounds, options)]


def compare(name: str, data: Data, steps: int, rounds: int, options: Options) -> list[Row]:
    """Return the rows of one model: medians over `rounds` pairs."""
    registered = MODELS[name]
    images, targets = data.train.read(torch.arange(len(data.train)).numpy())
    ours: list[float] = []
    peer: list[float] = []
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:  # a fresh one: the precision is chosen on the machine as it is now
        ours_speed(registered, data, 1, Path(cache), notes)
        for number in range(rounds):
            ours.append(ours_speed(registered, data, steps, Path(cache), notes))
            peer.append(peer_speed(registered, data, images, targets, steps))
            print(f"  {name}, round {number + 1}: ours {ours[-1]:.0f}, peer {peer[-1]:.0f} images/s", flush=True)
    ratios = sorted(a / b for a, b in zip(ours, peer, strict=True))
    about = {"n": rounds, "threads": torch.get_num_threads(), "batch": BATCH, "split": "train", "runtime": "torch"}
    artifact, mine = f"train-{name}", {**about, "precision": notes["precision"]}
    return [
        options.row(artifact, "speedup", statistics.median(ratios), "x", "higher", **mine),
        options.row(artifact, "speedup_worst", ratios[0], "x", "higher", **mine),
        options.row(artifact, "images_per_second", statistics.median(ours), "images/s", "higher", **mine),
        options.row(
            artifact, "peer_images_per_second", statistics.median(peer), "images/s", "", **about, precision="fp32"
        ),
    ]


def ours_speed(name: str, data: Data, steps: int, cache: Path, notes: dict[str, str]) -> float:
    """Return the images a second of the stage `train`; its chosen precision goes into `notes`."""
    from edgepress.train.precision import choose
    from edgepress.train.run import default_device

    stage, watch = Train(epochs=1, model=name, batch=BATCH), Stopwatch(WARM, steps)
    ctx = Context(data, 0, watch, NoCheckpoint(), lambda records: None, cache, {}, {})
    with contextlib.suppress(Enough):
        stage(None, ctx)
    module = new_model(name, data.signature, {}, 0).module
    notes["precision"] = choose(module, data.input, BATCH, "auto", default_device(), cache).precision
    return BATCH * steps / watch.seconds


def peer_speed(name: str, data: Data, images: object, targets: object, steps: int) -> float:
    """Return the images a second of the plain loop on the same network."""
    module = new_model(name, data.signature, {}, 0).module
    loader = plain_pytorch.loader(images, targets, data.input.mean, data.input.std, BATCH)  # pyright: ignore
    watch = Stopwatch(WARM, steps)
    with contextlib.suppress(Enough):
        for _ in watch.track(plain_pytorch.epoch(module, loader), len(loader), ""):
            pass
    return BATCH * steps / watch.seconds
