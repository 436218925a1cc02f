"""The registry of networks: one decorated function per model, its tiny twin beside it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from edgepress.core.registry import Registry

ModelFactory = Callable[..., nn.Module]
"""Called with `classes=...`, `channels=...` and the model's own keyword arguments; a factory with a parameter `size`
is also given `(height, width)` of its input."""

models: Registry[ModelFactory] = Registry("model", ("edgepress.models",))


@dataclass(frozen=True)
class Twin:
    """The smallest useful version of a model, so that the whole chain is tested on it in milliseconds.

    `arguments` are the factory's; `size` is the side of a square input that fits it.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    size: int = 32
    task: str = "classification"


twins: Registry[Twin] = Registry("model twin", ("edgepress.models",))


def model(
    name: str, twin: Mapping[str, Any], size: int = 32, task: str = "classification"
) -> Callable[[ModelFactory], ModelFactory]:
    """Register the decorated factory as model `name`; `twin` holds the arguments of its tiny twin for tests."""
    twins.register(name)(Twin(twin, size, task))
    return models.register(name)
