"""Small networks, images and budgets that the tests of this room share."""

import numpy as np
import torch
from torch import nn

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.inputs import InputSpec
from edgepress.models.base import twins
from edgepress.models.build import new_model

LABELS = tuple("abcdefghij")


class Branches(nn.Module):
    """What coupling has to follow: a residual sum, a grouped convolution, a concatenation, a gate, a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.inner = nn.Sequential(nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 16, 3, padding=1))
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.side = nn.Conv2d(16, 8, 1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 24, 1), nn.Sigmoid()
        )
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(24 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.inner(x)
        x = torch.cat([self.grouped(x), self.side(x)], 1).relu()
        x = self.depthwise(x)
        x = x * self.gate(x)
        return self.head(self.pool(x).flatten(1))


def branches() -> Branches:
    """A factory that a saved model can name: `prune.helpers:branches`."""
    return Branches()


def signature(size: int = 16) -> Signature:
    return Signature("classification", InputSpec(size, size), LABELS)


def small(name: str = "cifar_resnet8", size: int = 32, **arguments: object) -> Model:
    """Return the tiny twin of a registered model, or the model `name` with `arguments`, with lively batch norms."""
    if name in twins and not arguments:
        arguments, size = dict(twins.get(name).arguments), twins.get(name).size
    if name == "branches":
        torch.manual_seed(0)
        model = Model(Branches(), Builder("prune.helpers:branches"), signature(16))
    else:
        model = new_model(name, signature(size), dict(arguments), seed=0)
    enliven(model.module)
    return model


def enliven(module: nn.Module) -> None:
    """Give batch norms statistics that are not those of a fresh network, so that a wrong cut shows."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            with torch.no_grad():
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.uniform_(-0.2, 0.2, generator=generator)


def images(model: Model, count: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return images and targets for `model`."""
    rng = np.random.default_rng(0)
    channels, height, width = model.signature.input.shape
    pixels = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return pixels, rng.integers(0, len(model.signature.labels), count)
