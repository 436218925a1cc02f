"""Looking at what passes through the parts of a network."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import nn


@contextlib.contextmanager
def hooked(parts: Iterable[nn.Module], look: Callable[..., Any]) -> Iterator[None]:
    """Call `look(part, inputs, output)` after each of `parts` ran, within the block."""
    handles = [part.register_forward_hook(look) for part in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
