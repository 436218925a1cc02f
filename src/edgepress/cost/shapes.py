"""What decides how long a layer takes, and which layers of a network run with what."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.artifact import Signature
from edgepress.models.hooks import hooked
from edgepress.models.predictor import evaluating

LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class Shape:
    """What decides how long one layer takes, its two widths aside. Hashable: equal layers are timed once.

    `kind` is "conv" or "linear"; `height` and `width` are those of the input of a convolution (for a linear layer
    `height` is how many rows it is applied to, for one image).
    """

    kind: str
    height: int
    width: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    grouping: str = "full"
    """"full", "depthwise" (as many groups as channels), or the number of groups."""


LayerTime = Callable[[Shape, int, int], float]
"""Milliseconds of a layer of this shape with so many inputs and outputs."""


def watch(module: nn.Module, signature: Signature) -> dict[str, tuple[nn.Module, tuple[Shape, int]]]:
    """Return the layers that run, with their shape and how often their kernel is applied for one image."""
    found: dict[str, tuple[nn.Module, tuple[Shape, int]]] = {}
    paths: dict[nn.Module, str] = {part: path for path, part in module.named_modules() if isinstance(part, LAYERS)}

    def look(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        found[paths[part]] = (part, shape_of(part, inputs[0], output))

    state = next(module.parameters(), torch.zeros(()))
    image = torch.zeros(1, *signature.input.shape, dtype=state.dtype, device=state.device)
    with hooked(paths, look), evaluating(module), torch.no_grad():
        module(image)
    return found


def shape_of(part: Any, given: Tensor, output: Tensor) -> tuple[Shape, int]:
    """Return the shape of the layer `part`, seen on one image, and how often its kernel is applied for it."""
    if isinstance(part, nn.Linear):
        rows = output.numel() // max(part.out_features, 1)
        return Shape("linear", rows, 1), rows
    groups = int(part.groups)
    grouping = (
        "full" if groups == 1 else "depthwise" if groups == part.out_channels == part.in_channels else str(groups)
    )
    height, width = (int(given.shape[2]), int(given.shape[3])) if given.dim() == 4 else (int(given.shape[-1]), 1)
    padding = part.padding if isinstance(part.padding, tuple) else tuple(
        k // 2 if part.padding == "same" else 0 for k in part.kernel_size
    )  # fmt: skip
    kind = "conv" if isinstance(part, nn.Conv2d) else "other"
    places = output[0, 0].numel() if not isinstance(part, nn.ConvTranspose2d) else given[0, 0].numel()
    shape = Shape(kind, height, width, part.kernel_size, part.stride, tuple(padding), part.dilation, grouping)
    return shape, places
