"""Layers that may stand where a freshly built network has another one, or none: how to describe and remake them.

A layer of edgepress's own joins with `@layer("name")` on its class, which needs a method `config()` that returns the
keyword arguments (JSON values) of its constructor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from torch import nn

from edgepress.core.errors import EdgepressError
from edgepress.core.registry import Registry


@dataclass(frozen=True)
class Layer:
    """A kind of layer: its class and the function that reads the constructor's arguments off an instance."""

    type: type[nn.Module]
    config: Callable[[Any], dict[str, Any]]


def _rooms() -> tuple[str, ...]:
    here = Path(__file__).parent.parent
    rooms = ("prune", "factorize", "quantize", "search")
    return tuple(f"edgepress.{room}.layers" for room in rooms if (here / room / "layers.py").exists())


layers: Registry[Layer] = Registry("layer", _rooms())


class Configured(Protocol):
    """A module that knows the arguments it was constructed with."""

    def config(self) -> dict[str, Any]:
        """Return the keyword arguments (JSON values) that make another one like it."""
        ...


M = TypeVar("M", bound=type[Configured])


def layer(name: str) -> Callable[[M], M]:
    """Register the decorated module class, which has a method `config() -> dict`, as layer `name`."""

    def add(cls: M) -> M:
        layers.register(name)(Layer(cast(type[nn.Module], cls), cls.config))
        return cls

    return add


def describe(module: nn.Module, path: str) -> dict[str, Any]:
    """Return `{"layer": name, "config": ...}` of `module`; raise `EdgepressError` for a class not registered."""
    for name in layers:
        found = layers.get(name)
        if type(module) is found.type:
            return {"layer": name, "config": found.config(module)}
    raise EdgepressError(
        f"cannot save {path!r}: it became a {type(module).__module__}.{type(module).__qualname__}, and no such layer "
        "is registered; decorate its class with @layer(name) (edgepress.models.layers), or build the changed network "
        "in a factory of your own and name it 'package.module:factory'"
    )


def make(spec: dict[str, Any]) -> nn.Module:
    """Return the layer that `describe` described, freshly initialized."""
    return layers.get(spec["layer"]).type(**spec["config"])


def _register_torch_layers() -> None:
    def reads(*names: str) -> Callable[[Any], dict[str, Any]]:
        def read(module: Any) -> dict[str, Any]:
            values = {name: getattr(module, name) for name in names}
            if "bias" in values:
                values["bias"] = module.bias is not None
            return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

        return read

    conv = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias")
    norm = ("num_features", "eps", "momentum", "affine", "track_running_stats")
    kinds: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
        "Linear": (nn.Linear, ("in_features", "out_features", "bias")),
        "Conv1d": (nn.Conv1d, (*conv, "padding_mode")),
        "Conv2d": (nn.Conv2d, (*conv, "padding_mode")),
        "BatchNorm1d": (nn.BatchNorm1d, norm),
        "BatchNorm2d": (nn.BatchNorm2d, norm),
        "AvgPool2d": (nn.AvgPool2d, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
        "MaxPool2d": (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
        "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d, ("output_size",)),
        "Flatten": (nn.Flatten, ("start_dim", "end_dim")),
        "Dropout": (nn.Dropout, ("p", "inplace")),
        "GELU": (nn.GELU, ("approximate",)),
        "Sequential": (nn.Sequential, ()),
        "ModuleList": (nn.ModuleList, ()),
    }
    for plain in (nn.Identity, nn.Sigmoid, nn.Tanh):
        kinds[plain.__name__] = (plain, ())
    for activation in (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Hardsigmoid):
        kinds[activation.__name__] = (activation, ("inplace",))
    for name, (kind, names) in kinds.items():
        layers.register(name)(Layer(kind, reads(*names)))


_register_torch_layers()
