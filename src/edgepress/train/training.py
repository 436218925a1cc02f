"""The state of one training: a step forward, the end of an epoch, and how it is kept and found again."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from edgepress.core.errors import TrainingError
from edgepress.core.ranks import Ranks
from edgepress.core.stage import Checkpoint
from edgepress.models.inputs import normalize
from edgepress.tasks.base import Task
from edgepress.train.average import Average
from edgepress.train.companion import Companion
from edgepress.train.loader import Batch, Loader
from edgepress.train.objectives.base import Objective
from edgepress.train.optimizer import make_optimizer
from edgepress.train.precision import Mode
from edgepress.train.schedule import scale

if TYPE_CHECKING:
    from edgepress.train.fit import FitConfig

CHECKPOINT_SECONDS = 30.0

Evaluate = Callable[[nn.Module, Mode], dict[str, float]]
"""The scores of a network on the validation images, by metric."""


@dataclass
class _Position:
    """Where the training stands: the next step to do, and what the epoch has summed up so far: `sums` of each term over
    the `counts` of images that it was computed for."""

    epoch: int = 0
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    sums: dict[str, float] | None = None
    counts: dict[str, int] | None = None
    gradients: dict[str, float] | None = None


class Training:
    """The state of one training and what can happen to it."""

    def __init__(
        self,
        module: nn.Module,
        loader: Loader,
        objective: Objective,
        task: Task,
        config: "FitConfig",
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
        sums, counts, images = self.at.sums or {}, self.at.counts or {}, self.loader.batch
        self.latest = {name: value.item() for name, value in {**terms, "loss": loss}.items()}
        for name, value in self.latest.items():
            sums[name] = sums.get(name, 0.0) + value * images
            counts[name] = counts.get(name, 0) + images
        self.at.sums, self.at.counts = sums, counts
        self.at.images += images
        self.at.seconds += now - self._clock
        self.at.step += 1
        self._clock = now

    def _mean(self, name: str) -> float:
        return (self.at.sums or {}).get(name, 0.0) / max((self.at.counts or {}).get(name, 0), 1)

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
            with self.averaged():
                self.module.eval()
                record["val"] = evaluate(self.module, self.mode)
        self._whole = False
        self.history.append(record)
        self.at = _Position(epoch=self.at.epoch + 1)
        self._whole = True
        return record

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network hold the averaged weights for the block: no state may be saved from within."""
        self._whole = not self.config.ema
        with self.average.shown(self.module):
            yield
        self._whole = True

    def taken(self) -> None:
        """A batch goes to the companion."""
        self._whole = not self.companion.moves

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
        if self.config.keep_zeros:  # the zeros of the start: a saved weight may just be passing through 0
            weights = [p for p in self.module.parameters() if p.ndim > 1]
            self._masks = [(p, p != 0) for p in weights if not p.all()]
            if not self._masks:
                raise TrainingError("'keep_zeros' and no weight is 0: put a `sparsify` stage before, or leave it out")
        if state is not None:
            self._go_back(state)
        else:
            torch.manual_seed(self.loader.seed)

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
