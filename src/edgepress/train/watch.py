"""What the loop tells those who look on. It tells them of the steps they ask for, and nothing where nobody looks."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from edgepress.core.stage import Observer


class Watch:
    """Stands between a training and its observer, who may be nobody."""

    def __init__(self, observer: Observer | None, module: nn.Module, predict: Callable[[Tensor], Tensor]) -> None:
        self.observer, self.module, self.predict = observer, module, predict

    @contextlib.contextmanager
    def open(self, step: int, about: dict[str, Any]) -> Iterator[None]:
        """Tell of the beginning, and of the end however it comes."""
        if self.observer is None:
            yield
            return
        self.observer.begin(step, about)
        try:
            yield
        finally:
            self.observer.end()

    def step(self, done: int, values: Callable[[], dict[str, float]]) -> None:
        """Tell of a step, if it is one of those asked for; `values` are then computed."""
        if self.observer is None:
            return
        if done % self.observer.every == 0:
            self.observer.step(done, values())
        if self.observer.wants_images(done):
            self.observer.images(done, self.predict, self.module.eval())

    def epoch(self, done: int, record: dict[str, Any]) -> None:
        """Tell of the end of an epoch."""
        if self.observer is not None:
            self.observer.epoch(done, record, self.predict, self.module.eval())
