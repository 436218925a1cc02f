"""An exponential moving average of a network's weights, kept beside the training and put in place at its end."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Average:
    """Step t makes it `d * average + (1 - d) * weights` with `d = min(decay, (1 + t) / (10 + t))`.

    The young average follows fast, so that short trainings are not dominated by the first weights (as in TensorFlow's
    ExponentialMovingAverage). A decay of 0 averages nothing and costs nothing. Batch-norm statistics are averaged
    along; integer buffers are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._kept = {k: v.detach().clone() for k, v in module.state_dict().items()} if decay else {}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the weights of `module`."""
        if not self.decay:
            return
        self.steps += 1
        weight = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = module.state_dict()
        for name, value in self._kept.items():
            if value.is_floating_point():
                value.lerp_(state[name], weight)
            else:
                value.copy_(state[name])

    @contextlib.contextmanager
    def shown(self, module: nn.Module) -> Iterator[None]:
        """Let `module` hold the average for the block."""
        if not self.decay:
            yield
            return
        own = {k: v.detach().clone() for k, v in module.state_dict().items()}
        module.load_state_dict(self._kept)
        try:
            yield
        finally:
            module.load_state_dict(own)

    def finish(self, module: nn.Module) -> None:
        """Put the average in place for good."""
        if self.decay:
            module.load_state_dict(self._kept)

    def state_dict(self) -> dict[str, Tensor | int | dict[str, Tensor]]:
        """Return what `load_state_dict` needs."""
        return {"steps": self.steps, "kept": self._kept}

    def load_state_dict(self, state: dict) -> None:
        """Go back to a saved average; it stays on the device it is on."""
        self.steps = state["steps"]
        for name, value in state["kept"].items():
            self._kept[name].copy_(value)
