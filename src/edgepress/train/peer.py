"""Two networks that are trained together, each the other's teacher."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.errors import TrainingError
from edgepress.models.inputs import normalize
from edgepress.tasks.base import Task
from edgepress.train.companion import Companion
from edgepress.train.fit import FitConfig
from edgepress.train.loader import Batch, Loader
from edgepress.train.objectives.base import Objective
from edgepress.train.optimizer import make_optimizer
from edgepress.train.precision import Mode


@dataclass(frozen=True)
class Alternating(Objective):
    """Of the steps of a training the even ones minimize the terms without a teacher, the odd ones those with one."""

    def __call__(self, outputs: Tensor, batch: Batch, task: Task) -> dict[str, Tensor]:
        """Return the weighted terms of this step by name."""
        turn = batch.step % 2 == 1
        chosen = tuple(term for term in self.terms if term[2].needs_teacher == turn)
        return Objective(chosen)(outputs, batch, task)


class Peer(Companion):
    """A second network that learns from the same batches and from the first one's outputs, by its own optimizer.

    Each step both answer; then the first network minimizes its objective with the peer's outputs as its teacher, and
    the peer the same objective with the first network's outputs (Zhang et al., "Deep Mutual Learning", CVPR 2018, where
    the peer's turn sees the first network after its step; here before, which saves a forward pass). Both outputs are
    constants to the other. Module, optimizer and their state are part of the checkpoint.
    """

    moves = True  # its batch-norm statistics, and the random stream of its dropout

    def __init__(self, module: nn.Module, objective: Objective, task: Task, loader: Loader, config: FitConfig) -> None:
        self.module, self.objective, self.task, self.loader = module.to(loader.device), objective, task, loader
        self.clip = config.clip
        self.optimizer = make_optimizer([self.module], config)
        self._mode = Mode("fp32", False)
        self._outputs: Tensor | None = None

    @contextlib.contextmanager
    def attached(self, mode: Mode) -> Iterator[None]:
        """Bring the peer into the arithmetic of the training for the block."""
        self._mode = mode
        with mode.applied(self.module):
            yield

    def attend(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches with the peer's outputs as the teacher's."""
        for batch in batches:
            self.module.train()
            images = normalize(batch.shown, self.loader.spec)
            with self._mode.autocast(self.loader.device), self.ranks.whole_batch(self.loader.batch):
                outputs: Tensor = self.module(self._mode.place(images)).float()
            self._outputs, batch.teacher = outputs, outputs.detach()
            yield batch

    def follow(self, batch: Batch, outputs: Tensor, lr: float) -> None:
        """Let the peer do its step; raise `TrainingError` where its loss is not finite."""
        assert self._outputs is not None
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        own = self.ranks.gather(self._outputs, self.loader.batch)
        terms = self.objective.blended(own, replace(batch, teacher=outputs), self.task)
        loss = sum(terms.values(), torch.zeros((), device=self.loader.device))
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of the peer became {loss.item()} in step {batch.step + 1}, at a learning rate of {lr:.3g}; "
                "try a lower `lr`, a longer `warmup` or `clip: 1.0`"
            )
        loss.backward()
        self.ranks.add(p.grad for p in self.module.parameters() if p.grad is not None)
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._outputs = None

    def state_dict(self) -> dict[str, Any]:
        """Return the peer's weights and its optimizer's state."""
        return {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
