"""What the layers of a network do with images: statistics of their activations, dead channels, pictures of channels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepress.core.errors import ConfigError, suggest
from edgepress.models.hooks import hooked
from edgepress.train.pairing import arranged, layout_of
from edgepress.train.pictures import MOST_CHANNELS, Picture, channels

FLAT = 1e-6
"""A channel whose values differ by less than this part of the layer's largest says nothing."""

MOST_ROWS = 256
"""Channels of a vector that its picture shows."""


@dataclass(frozen=True)
class Layer:
    """The activations of one module over some images.

    `shape` is that of one image, `(channels, height, width)` or `(channels,)`; `zeros` the share of zeros in percent;
    `dead` the channels that give the same number everywhere, for every image. `maps` are the first channels for the
    first image `(C, H, W)`; vectors are one map, a row for each channel and a column for each image.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    mean: float
    std: float
    least: float
    most: float
    zeros: float
    dead: tuple[int, ...]
    maps: NDArray[np.float32]

    def picture(self) -> Picture:
        """Return the channels side by side."""
        return channels(self.maps, self.dead if len(self.shape) == 3 else ())

    def facts(self) -> dict[str, Any]:
        """Return everything but the maps, as plain values; `dead` as a count, too."""
        names = ("path", "kind", "mean", "std", "least", "most", "zeros")
        found = {name: getattr(self, name) for name in names}
        return {**found, "shape": list(self.shape), "dead": len(self.dead), "dead_channels": list(self.dead)}


def look_at(module: nn.Module, patterns: Sequence[str], run: Callable[[], object], square: bool) -> list[Layer]:
    """Return what the modules that `patterns` (paths or globs) name give while `run` runs the network once.

    A module that runs more than once counts where it ran last. `square` says that the images are so. Raises
    `ConfigError` with the nearest path for every pattern that names nothing.
    """
    parts = {path: part for path, part in module.named_modules() if path}
    problems: list[str] = []
    chosen: dict[str, nn.Module] = {}
    for pattern in patterns:
        found = {path: part for path, part in parts.items() if fnmatchcase(path, pattern)}
        if not found:
            problems.append(f"the network has no layer {pattern!r}{suggest(pattern, parts)}")
        chosen |= found
    if problems:
        raise ConfigError(problems)
    layers: dict[str, Layer] = {}

    paths = {part: path for path, part in chosen.items()}

    def look(part: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            known = layout_of(tuple(output.shape), square)
            if known:
                layers.pop(paths[part], None)
                picture = arranged(output.detach(), known[0]).float()
                layers[paths[part]] = _layer(paths[part], type(part).__name__, picture)

    with hooked(paths, look), torch.no_grad():
        run()
    if not layers:
        raise ConfigError(f"none of {', '.join(patterns)} gives features that can be shown: {', '.join(chosen)}")
    return list(layers.values())


def _layer(path: str, kind: str, x: Tensor) -> Layer:
    """Take down `(N, C, H, W)` or `(N, C)`, at once: a later layer may change them in place."""
    dims = [dim for dim in range(x.ndim) if dim != 1]
    spread = x.amax(dims) - x.amin(dims)
    size = float(x.abs().max())
    dead = tuple(int(c) for c in torch.nonzero(spread <= FLAT * size).flatten())
    maps = x[0, :MOST_CHANNELS] if x.ndim == 4 else x.T[None, :MOST_ROWS]
    std, mean = torch.std_mean(x, correction=0)
    zeros = 100 * float((x == 0).float().mean())
    ends = float(x.min()), float(x.max())
    taken = maps.cpu().clone().numpy()
    return Layer(path, kind, tuple(x.shape[1:]), float(mean), float(std), *ends, zeros, dead, taken)
