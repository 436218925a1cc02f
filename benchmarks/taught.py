"""The networks of the matrices: eight, at 224 and at 32 pixels, taught on CIFAR-10 in minutes each.

A network that was taught nothing answers every image with nearly the same logits: any rounding turns its answers, and
parity tells nothing. Each is taught on small images first, where an epoch is cheap, and the one for large images goes
on from there with a few of them.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.base import RECIPES, Options
from benchmarks.distilling import done
from edgepress.core.errors import DataError
from edgepress.data.base import Data
from edgepress.data.sets.cifar import Cifar10
from edgepress.models.inputs import normalize
from edgepress.models.statistics import repair_statistics_
from edgepress.models.structure import load_model, save_model
from edgepress.recipes.recipe import Recipe, read_recipe
from edgepress.recipes.runner import smoke


class Network(NamedTuple):
    """A network by its name in a recipe; the smallest images it takes, and what its training needs."""

    model: str
    smallest: int = 32
    arguments: str = "{}"
    lr: float = 1e-3
    limit: int = 40000
    epochs: int = 3


NETWORKS = {
    "mobilenet_v3_small": Network("torchvision:mobilenet_v3_small"),
    "resnet18": Network("torchvision:resnet18"),
    "mobilenet_v2": Network("torchvision:mobilenet_v2"),
    "efficientnet_b0": Network("torchvision:efficientnet_b0"),
    "resnet50": Network("torchvision:resnet50", limit=10000, epochs=2),
    "alexnet": Network("torchvision:alexnet", 64, lr=1e-4, limit=12000),
    "vgg11": Network("torchvision:vgg11", lr=1e-4, limit=8000, epochs=2),
    "nasnetmobile": Network(
        "timm:nasnetalarge", 64, "{stem_size: 32, channel_multiplier: 2, num_features: 1056}", limit=8000, epochs=2
    ),
}
"""The networks of the issue; NASNet-Mobile is timm's NASNet with the mobile widths. The last three have no small twin
or no batch norm: they learn with other settings."""

LARGE = 224
FEW = 1000
"""Large images that a network is taught with."""


class Taught:
    """A network at one size. `folder` is where it lies as a saved model, `data` what it was taught."""

    def __init__(self, name: str, size: int, options: Options) -> None:
        if missing := Cifar10().available():
            raise DataError(missing)
        self.name, self.size, self._options = name, size, options
        self._network = NETWORKS[name]

    @cached_property
    def folder(self) -> Path:
        """The saved model; taught now where it is not there.

        Its batch norms are re-estimated: MobileNetV3's follow so slowly that minutes of training leave them behind.
        """
        to = self._options.work / "matrix" / f"{self.name}-{self.size}" / "taught"
        if not (to / "structure.json").exists():
            model = load_model(self._trained())
            images = torch.from_numpy(self.data.calibration(512, 0)).permute(0, 3, 1, 2)
            repair_statistics_(model.module, normalize(images, model.signature.input))
            save_model(model, to)
        return to

    def _trained(self) -> Path:
        first = self._network.smallest
        result = done(self._recipe(first, None, self._network.epochs, self._network.limit), self._options)
        if self.size != first:
            weights = result.shelves["network"].folder / "weights.safetensors"
            result = done(self._recipe(self.size, weights, 2, FEW), self._options)
        return result.shelves["network"].folder

    @property
    def data(self) -> Data:
        """CIFAR-10 at this size."""
        return self._recipe(self.size, None, 1, FEW).source.load()

    def _recipe(self, size: int, weights: Path | None, epochs: int, limit: int) -> Recipe:
        about = self._network
        sets = {
            "name": f"matrix-{self.name}-{size}", "data.cifar10.limit": limit, "start.model": about.model,
            "start.arguments": about.arguments, "network.lr": about.lr, "network.epochs": epochs,
        }  # fmt: skip
        if weights is not None:
            sets |= {"start.weights": weights, "network.lr": about.lr / 3}
        if size != 32:
            sets |= {"data.cifar10.size": size, "network.batch": 16 if size == LARGE else 64}
        recipe = read_recipe(RECIPES / "matrix-network.yaml", [f"{key}={value}" for key, value in sets.items()])
        if self._options.quick:
            recipe = smoke(recipe)
            source = replace(recipe.source, size=sets.get("data.cifar10.size"))  # pyright: ignore[reportCallIssue]
            return replace(recipe, source=source)
        return recipe
