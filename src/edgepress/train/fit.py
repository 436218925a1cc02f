"""The one training loop: plain training, distillation, recovery and quantization-aware training all run through it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgepress.core.config import STRICT
from edgepress.core.inputs import InputSpec
from edgepress.core.ranks import ALONE, Ranks
from edgepress.core.stage import Checkpoint, Observer, Progress
from edgepress.models.inputs import normalize
from edgepress.tasks.base import Task
from edgepress.train.companion import Companion
from edgepress.train.loader import Batch, Loader
from edgepress.train.objectives.base import Objective
from edgepress.train.precision import Mode, Precision, choose
from edgepress.train.schedule import Schedule
from edgepress.train.training import Evaluate, Training
from edgepress.train.watch import Watch


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    `warmup` is a share of the steps, `clip` the largest gradient norm (0: no clipping), `ema` the decay per step of an
    average of the weights that replaces them at the end (0: none). With `keep_zeros` weights that are 0 at the start
    stay so.
    """

    __pydantic_config__ = STRICT

    epochs: int
    lr: float = 0.1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    ema: float = 0.0
    clip: float = 0.0
    precision: Precision = "auto"
    keep_zeros: bool = False


def fit(
    module: nn.Module,
    loader: Loader,
    objective: Objective,
    task: Task,
    config: FitConfig,
    *,
    cache: Path,
    progress: Progress,
    checkpoint: Checkpoint,
    log: Callable[[list[dict[str, Any]]], None],
    evaluate: Evaluate | None = None,
    companion: Companion | None = None,
    ranks: Ranks = ALONE,
    observer: Observer | None = None,
) -> tuple[Mode, list[dict[str, Any]]]:
    """Train `module` in place; return the mode of arithmetic it was trained in and the records of its epochs.

    `companion` fills in what the objective needs beside images and targets, and may learn along. `log` is given the
    whole list of epoch records after every epoch. Killed at any instant and called again with the same arguments and
    checkpoint, the training ends with bit-identical weights. Raises `TrainingError` when the loss is not finite.

    Of several processes (`ranks`; the loader draws for the same) each calls this with the same arguments: the weights
    are those of one process up to rounding, and a training may go on with another number of them. Only the main one
    evaluates, logs, saves and is observed. `observer` looks on and changes nothing.
    """
    state = checkpoint.load()
    ranks.wait()  # nobody may save before everybody has loaded
    mode = Mode(**ranks.agreed(lambda: asdict(_mode(state, module, loader, config, cache))))
    if mode.fp32_speed and not state and ranks.main:
        progress.say(
            f"warning: precision {mode.precision!r} is slow on this processor, {mode.speed:.0f} images a second; "
            f"'fp32' does {mode.fp32_speed:.0f}, and 'auto' takes what is faster"
        )
    companion = companion or Companion()
    companion.ranks = ranks
    run = Training(module.to(loader.device), loader, objective, task, config, mode, checkpoint, companion, ranks)
    run.begin(state)
    watch = Watch(observer if ranks.main else None, module, predictor_of(module, mode, loader.spec))
    about = {**asdict(config), **asdict(mode), "batch": loader.batch, "processes": ranks.count}
    try:
        with mode.applied(module), companion.attached(mode), watch.open(run.done, about):
            while run.at.epoch < config.epochs:
                _epoch(run, progress, watch)
                record = run.end_epoch(evaluate if ranks.main else None)
                if ranks.main:
                    log(run.history)  # before the state: a kill in between makes this epoch anew, with its record
                    run.save()
                    with run.averaged():
                        watch.epoch(run.done, record)
                    progress.status(_words(record))
                ranks.wait()
    except KeyboardInterrupt:
        run.save_if_whole()
        raise
    run.average.finish(module)
    return mode, run.history


def _mode(state: dict[str, Any] | None, module: nn.Module, loader: Loader, config: FitConfig, cache: Path) -> Mode:
    if state:
        return Mode(**state["mode"])  # a training goes on in the arithmetic it began in
    return choose(module, loader.spec, loader.batch, config.precision, loader.device, cache)


def _epoch(run: Training, progress: Progress, watch: Watch) -> None:
    """Do the steps that are left of the current epoch."""
    loader, at = run.loader, run.at
    with run.ranks.main_first():
        run.companion.prepare(at.epoch)
    run.align()
    batches = run.companion.attend(_numbered(run, at.epoch, at.step))
    run.start_clock()
    for batch in progress.track(batches, len(loader) - at.step, f"epoch {at.epoch + 1}/{run.config.epochs}"):
        progress.status(run.step(batch))
        watch.step(run.done, run.values)
        run.save_if_due()


def _numbered(run: Training, epoch: int, start: int) -> Iterator[Batch]:
    """Yield the batches of `epoch` from step `start` on, with their number in the training and their mixup."""
    loader = run.loader
    for step, batch in enumerate(loader.epoch(epoch, start), start):
        batch.step, batch.blend = epoch * len(loader) + step, loader.blend(loader.batch, epoch, step)
        batch.done = (batch.step + 1) / run.steps
        if batch.blend and loader.ranks.count > 1:
            own = loader.ranks.share(batch.blend.partners)
            images = loader.ranks.gather(batch.images, loader.batch)
            batch.blend = replace(batch.blend, others=images[own.to(images.device)])
        run.taken()
        yield batch


def predictor_of(module: nn.Module, mode: Mode, spec: InputSpec) -> Callable[[Tensor], Tensor]:
    """Return a function from uint8 images `(n, C, H, W)` to float32 outputs, in the precision of the training."""

    def outputs(images: Tensor) -> Tensor:
        with torch.inference_mode(), mode.autocast(images.device):
            return module(mode.place(normalize(images, spec))).float()

    return outputs


def _words(record: dict[str, Any]) -> str:
    scores = "  ".join(f"{name} {value:.2f}" for name, value in record.get("val", {}).items())
    return f"loss {record['loss']:.3f}  {scores}  {record['images_per_second']:.0f} img/s"
