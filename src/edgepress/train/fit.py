"""The one training loop: plain training, distillation, recovery and quantization-aware training all run through it."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgepress.core.config import STRICT
from edgepress.core.errors import TrainingError
from edgepress.core.inputs import InputSpec
from edgepress.core.ranks import ALONE, Ranks
from edgepress.core.stage import Checkpoint, Observer, Progress
from edgepress.models.inputs import normalize
from edgepress.tasks.base import Task
from edgepress.train.average import Average
from edgepress.train.companion import Companion
from edgepress.train.loader import Batch, Loader
from edgepress.train.objectives.base import Objective
from edgepress.train.optimizer import make_optimizer
from edgepress.train.precision import Mode, Precision, choose
from edgepress.train.schedule import Schedule, scale
from edgepress.train.watch import Watch

CHECKPOINT_SECONDS = 30.0


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


@dataclass
class _Position:
    """Where the training stands: the next step to do, and what the epoch has summed up so far."""

    epoch: int = 0
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    sums: dict[str, float] | None = None
    gradients: dict[str, float] | None = None


Evaluate = Callable[[nn.Module, Mode], dict[str, float]]


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
    run = _Run(module.to(loader.device), loader, objective, task, config, mode, checkpoint, companion, ranks)
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
                    with run.average.shown(module):
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


def _epoch(run: "_Run", progress: Progress, watch: Watch) -> None:
    """Do the steps that are left of the current epoch."""
    loader, at = run.loader, run.at
    with run.ranks.main_first():
        run.companion.prepare(at.epoch)
    run.align()
    batches = run.companion.attend(_numbered(loader, at.epoch, at.step, run.steps))
    run.start_clock()
    for batch in progress.track(batches, len(loader) - at.step, f"epoch {at.epoch + 1}/{run.config.epochs}"):
        progress.status(run.step(batch))
        watch.step(run.done, run.values)
        run.save_if_due()


def _numbered(loader: Loader, epoch: int, start: int, steps: int) -> Iterator[Batch]:
    """Yield the batches of `epoch` from step `start` on, with their number in a training of `steps` and their mixup."""
    for step, batch in enumerate(loader.epoch(epoch, start), start):
        batch.step, batch.blend = epoch * len(loader) + step, loader.blend(loader.batch, epoch, step)
        batch.done = (batch.step + 1) / steps
        if batch.blend and loader.ranks.count > 1:
            own = loader.ranks.share(batch.blend.partners)
            images = loader.ranks.gather(batch.images, loader.batch)
            batch.blend = replace(batch.blend, others=images[own.to(images.device)])
        yield batch


def predictor_of(module: nn.Module, mode: Mode, spec: InputSpec) -> Callable[[Tensor], Tensor]:
    """Return a function from uint8 images `(n, C, H, W)` to float32 outputs, in the precision of the training."""

    def outputs(images: Tensor) -> Tensor:
        with torch.inference_mode(), mode.autocast(images.device):
            return module(mode.place(normalize(images, spec))).float()

    return outputs


class _Run:
    """The state of one training and what can happen to it."""

    def __init__(
        self,
        module: nn.Module,
        loader: Loader,
        objective: Objective,
        task: Task,
        config: FitConfig,
        mode: Mode,
        checkpoint: Checkpoint,
        companion: Companion,
        ranks: Ranks,
    ) -> None:
        self.module, self.loader, self.objective, self.task = module, loader, objective, task
        self.config, self.mode, self.checkpoint, self.companion = config, mode, checkpoint, companion
        self.ranks, self.latest = ranks, dict[str, float]()
        trained = companion.trained
        self._modules = [module] if trained is None else [module, trained.to(loader.device)]
        self.optimizer = make_optimizer(self._modules, config)
        self.average = Average(module, config.ema)
        self._masks: list[tuple[Tensor, Tensor]] = []
        self.at = _Position()
        self.history: list[dict[str, Any]] = []
        self._saved = self._clock = time.monotonic()
        self._whole = True

    @property
    def _cuda(self) -> bool:
        return self.loader.device.type == "cuda"

    @property
    def done(self) -> int:
        """The steps done so far, those of all epochs."""
        return self.at.epoch * len(self.loader) + self.at.step

    @property
    def steps(self) -> int:
        """The steps of the whole training."""
        return self.config.epochs * len(self.loader)

    def values(self) -> dict[str, float]:
        """Return the loss and the weighted terms of the last step, its learning rate, and the images a second."""
        speed = self.at.images / max(self.at.seconds, 1e-9)
        return {**self.latest, "lr": self.optimizer.param_groups[0]["lr"], "images_per_second": speed}

    def start_clock(self) -> None:
        """Let the throughput count from now."""
        self._clock = time.monotonic()

    def step(self, batch: Batch) -> str:
        """Do one step and return its loss in words."""
        self._whole = False
        lr = self.config.lr * scale(self.config.schedule, (self.done + 1) / self.steps, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.module.train()
        batch, terms, outputs = self._terms(batch)
        loss = sum(terms.values(), torch.zeros((), device=self.loader.device))
        self._require_finite(loss, lr)
        if len(terms) > 1 and self.at.step == len(self.loader) - 1:
            self.at.gradients = self._gradients(terms)
        loss.backward()
        if self.ranks.count > 1:
            self._add_gradients()
        if self.config.clip:
            parameters = [p for module in self._modules for p in module.parameters()]
            torch.nn.utils.clip_grad_norm_(parameters, self.config.clip)
        self.optimizer.step()
        self._clear_zeros()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.module)
        self.companion.follow(batch, outputs.detach(), lr)
        self._count(terms, loss)
        self._whole = True
        return f"loss {self._mean('loss'):.3f}  {self.at.images / max(self.at.seconds, 1e-9):.0f} img/s"

    def _terms(self, batch: Batch) -> tuple[Batch, dict[str, Tensor], Tensor]:
        """Return the whole batch, the weighted terms and the outputs of the network."""
        images, total = normalize(batch.shown, self.loader.spec), self.loader.batch
        with self.mode.autocast(self.loader.device), self.ranks.whole_batch(total):
            outputs = self.module(self.mode.place(images))
        outputs, batch = self.ranks.gather(outputs.float(), total), batch.gathered(self.ranks, total)
        return batch, self.objective.blended(outputs, batch, self.task), outputs

    @torch.no_grad()
    def _clear_zeros(self) -> None:
        """Take back what the step gave to weights that are to stay 0."""
        for parameter, stays in self._masks:
            parameter.mul_(stays)

    def _add_gradients(self) -> None:
        """Add up what the shares of the batch give. What learns beside the network (connectors) has seen all of it."""
        for number, module in enumerate(self._modules):
            grads = [p.grad for p in module.parameters() if p.grad is not None]
            self.ranks.add(grads)
            for grad in grads if number else ():
                grad.div_(self.ranks.count)

    def align(self) -> None:
        """Let the processes begin an epoch with the same numbers, whatever machines they run on."""
        self.ranks.align(value for module in self._modules for value in module.state_dict().values())

    def _gradients(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Return how hard each weighted term pulls: the norm of its gradient over the weights of the network."""
        weights = [p for p in self.module.parameters() if p.requires_grad]
        sizes: dict[str, float] = {}
        for name, value in terms.items():
            pulls = (
                torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True) if value.requires_grad else ()
            )
            found = [pull.float() for pull in pulls if pull is not None]
            self.ranks.add(found)
            sizes[name] = math.sqrt(sum(pull.square().sum().item() for pull in found))
        return sizes

    def _require_finite(self, loss: Tensor, lr: float) -> None:
        if not math.isfinite(loss.item()):
            raise TrainingError(
                f"the loss became {loss.item()} in epoch {self.at.epoch + 1}, step {self.at.step + 1}, "
                f"at a learning rate of {lr:.3g}; try a lower `lr`, a longer `warmup`, `clip: 1.0` or `precision: fp32`"
            )

    def _count(self, terms: dict[str, Tensor], loss: Tensor) -> None:
        now = time.monotonic()
        sums, images = self.at.sums or {}, self.loader.batch
        self.latest = {name: value.item() for name, value in {**terms, "loss": loss}.items()}
        for name, value in self.latest.items():
            sums[name] = sums.get(name, 0.0) + value * images
        self.at.sums = sums
        self.at.images += images
        self.at.seconds += now - self._clock
        self.at.step += 1
        self._clock = now

    def _mean(self, name: str) -> float:
        return (self.at.sums or {}).get(name, 0.0) / max(self.at.images, 1)

    def end_epoch(self, evaluate: Evaluate | None) -> dict[str, Any]:
        """Close the epoch: evaluate the averaged weights, record, and move to the next one."""
        record: dict[str, Any] = {
            "event": "epoch",
            "epoch": self.at.epoch + 1,
            "loss": self._mean("loss"),
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_second": self.at.images / max(self.at.seconds, 1e-9),
            "terms": {name: self._mean(name) for name in self.at.sums or {} if name != "loss"},
        }
        if self.at.gradients:
            record["gradients"] = self.at.gradients
        if evaluate:
            with self.average.shown(self.module):
                self.module.eval()
                record["val"] = evaluate(self.module, self.mode)
        self._whole = False
        self.history.append(record)
        self.at = _Position(epoch=self.at.epoch + 1)
        self._whole = True
        return record

    def save_if_due(self) -> None:
        """Save the state where the last time lies back `CHECKPOINT_SECONDS`."""
        if self.ranks.main and time.monotonic() - self._saved >= CHECKPOINT_SECONDS:
            self.save()

    def save_if_whole(self) -> None:
        """Save the state, unless it was caught in the middle of a step: then the last saved one must do."""
        if self._whole and self.ranks.main:
            self.save()

    def save(self) -> None:
        """Save all that the rest of the training depends on."""
        self.checkpoint.save(
            {
                "mode": asdict(self.mode),
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
                "companion": self.companion.state_dict(),
                "at": asdict(self.at),
                "history": self.history,
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(self.loader.device) if self._cuda else None,
            }
        )
        self._saved = time.monotonic()

    def begin(self, state: dict[str, Any] | None) -> None:
        """Go back to a saved state; at a fresh start seed the random stream that dropout draws from."""
        if state is not None:
            self._go_back(state)
        else:
            torch.manual_seed(self.loader.seed)
        if self.config.keep_zeros:
            weights = [p for p in self.module.parameters() if p.ndim > 1]
            self._masks = [(p, p != 0) for p in weights if not p.all()]
            if not self._masks:
                raise TrainingError("'keep_zeros' and no weight is 0: put a `sparsify` stage before, or leave it out")

    def _go_back(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.companion.load_state_dict(state.get("companion", {}))
        self.at = _Position(**state["at"])
        self.history = state["history"]
        torch.set_rng_state(state["rng"])
        if self._cuda and state.get("cuda_rng") is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.loader.device)


def _words(record: dict[str, Any]) -> str:
    scores = "  ".join(f"{name} {value:.2f}" for name, value in record.get("val", {}).items())
    return f"loss {record['loss']:.3f}  {scores}  {record['images_per_second']:.0f} img/s"
