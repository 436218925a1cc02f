"""A network that looks at a smaller copy of its image: the image keeps its size, multiply-adds fall by the square."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from edgepress.core.artifact import Builder, Signature
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.models.base import model, twins


class Resized(nn.Module):
    """`net` on images of `side` by `side` pixels, made by bilinear interpolation."""

    def __init__(self, net: nn.Module, side: int) -> None:
        super().__init__()
        self.side, self.net = side, net

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to the logits of `net` `(N, classes)`."""
        return self.net(F.interpolate(x, size=(self.side, self.side), mode="bilinear", align_corners=False))


@model("resized", twin={"of": "cifar_resnet8", "side": 8, "width": 4}, size=16)
def resized(
    classes: int, channels: int, of: str, side: int, size: tuple[int, int] = (32, 32), **arguments: Any
) -> nn.Module:
    """The network named `of`, a classifier with `arguments`, at `side` pixels a side: the resolution as one more
    argument for a search, as in `models: [resized], space: {of: [cifar_resnet20], side: [20, 24, 32]}`.

    Raises `ConfigError` where `side` is not from 1 to that of the images, or `of` is no classifier.
    """
    from edgepress.models.build import build

    if not 1 <= side <= min(size):
        raise ConfigError(f"resized: side must be from 1 to {min(size)}, the shorter side of the images, got {side}")
    if of in twins and (task := twins.get(of).task) != "classification":
        raise ConfigError(f"resized: of must name a classifier, {of!r} is a network for {task}")
    middle = (0.5,) * channels
    spec = InputSpec(side, side, channels, middle, middle, "RGB" if channels == 3 else "L")
    labels = tuple(f"class {number}" for number in range(classes))
    return Resized(build(Builder(of, arguments), Signature("classification", spec, labels)), side)
