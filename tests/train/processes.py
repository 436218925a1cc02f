"""Processes that train together on this machine, forked from a server that has imported what they need."""

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from edgepress.cli.launch import environment, free_port
from edgepress.core.errors import EdgepressError
from edgepress.core.ranks import ALONE, Ranks
from edgepress.core.stage import Stage
from edgepress.data.arrays import ArraySplit
from edgepress.data.base import Data
from edgepress.measure.base import Quiet
from edgepress.train.state import FileCheckpoint
from train.helpers import context, tiny_data

PRELOAD = ["accelerate", "edgepress.train.run", "edgepress.train.distributed", "edgepress.recipes.runner"]
LONGEST = 300


def together(count: int, work: Callable[..., None], *arguments: Any) -> list[int | None]:
    """Run `work(ranks, *arguments)` in `count` connected processes; return their exit codes."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([*PRELOAD, "train.processes"])
    port = free_port()
    processes = [server.Process(target=_rank, args=(rank, count, port, work, arguments)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(LONGEST)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def _rank(rank: int, count: int, port: str, work: Callable[..., None], arguments: Sequence[Any]) -> None:
    from edgepress.train import precision
    from edgepress.train.distributed import join

    torch.set_num_threads(1)
    precision.SECONDS = 0.01
    os.environ |= {**environment(rank, count, port), "OMP_NUM_THREADS": "1"}
    work(join(), *arguments)


class Steps:
    """An observer that keeps the values of every step."""

    every = 1

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.ended = False

    def begin(self, step: int, about: dict[str, Any]) -> None:
        self.began, self.about = step, about

    def step(self, step: int, values: dict[str, float]) -> None:
        self.values.append({"step": step, **values})

    def epoch(self, step: int, record: dict[str, Any], predict: Any, module: nn.Module) -> None:
        assert not module.training

    def wants_images(self, step: int) -> bool:
        return False

    def images(self, step: int, predict: Any, module: nn.Module) -> None:
        raise AssertionError("nobody asked for images")

    def end(self) -> None:
        self.ended = True


def scenes() -> Data:
    """Class maps, one quarter of the first images void: a mean over pixels is no mean of means over images."""
    data = tiny_data(64)
    images = data.train.read(np.arange(64))[0]
    maps = np.where(images[..., 0] > 120, 1, 0).astype(np.int64)
    maps[:20, :4, :4] = 255
    split = ArraySplit(images, maps)
    return dataclasses.replace(data, task="segmentation", train=split, val=split, test=split, fingerprint="scenes")


def train(ranks: Ranks, stages: Mapping[str, Stage], folder: Path, references: dict[str, Any]) -> None:
    """Train each stage; write losses, epochs and weights of this process as `NAME-COUNT-INDEX` into `folder`."""
    for name, stage in stages.items():
        log: list[dict[str, Any]] = []
        observer = Steps()
        data = scenes() if name == "scenes" else None
        ctx = context(folder / "cache", FileCheckpoint(folder / f"{name}.state"), data, 0, references, log=log)
        made: Any = stage(None, dataclasses.replace(ctx, ranks=ranks, observer=observer))
        path = folder / f"{name}-{ranks.count}-{ranks.index}"
        torch.save(made.module.state_dict(), path.with_suffix(".pt"))
        found = {"steps": observer.values, "log": log, "notes": ctx.notes, "ended": observer.ended}
        path.with_suffix(".json").write_text(json.dumps(found))
        (folder / f"{name}.state").unlink(missing_ok=True) if ranks.main else None
        ranks.wait()


def train_and_die(ranks: Ranks, stage: Stage, folder: Path, at: int) -> None:
    """Train with a checkpoint after every step; process 1 ends as by a power cut in step `at`."""
    from edgepress.train import training

    training.CHECKPOINT_SECONDS = 0.0
    own, steps = training.Training.step, 0

    def step(self: Any, batch: Any) -> str:
        nonlocal steps
        steps += 1
        if steps == at and ranks.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(self, batch)

    training.Training.step = step
    ctx = context(folder / "cache", FileCheckpoint(folder / "state.pt"))
    try:
        stage(None, dataclasses.replace(ctx, ranks=ranks))
    except EdgepressError as error:
        (folder / f"error-{ranks.index}.txt").write_text(str(error))
        sys.exit(error.exit_code)


def run_recipe(ranks: Ranks, recipe: dict[str, Any], runs: Path) -> None:
    """Run a recipe; a process that is not the main one cannot finish a file."""
    from edgepress.recipes.recipe import parse_recipe
    from edgepress.recipes.runner import run

    def refuse(*names: object) -> NoReturn:
        raise AssertionError(f"process {ranks.index} writes {names}")

    if not ranks.main:
        os.replace = refuse  # pyright: ignore[reportAttributeAccessIssue]
    result = run(parse_recipe(recipe), runs, Quiet(), ranks=ranks)
    assert bool(result.rows) == ranks.main


def alone(stages: Mapping[str, Stage], folder: Path, references: dict[str, Any]) -> None:
    """The same trainings in this process."""
    train(ALONE, stages, folder, references)
