"""A score says how much is lost with each unit of each site; one small frozen dataclass per file."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgepress.core.config import STRICT
from edgepress.core.registry import Registry
from edgepress.cost.shapes import LAYERS
from edgepress.models.predictor import evaluating
from edgepress.prune.graph import Member, Site, columns

BATCH = 32


@dataclass(frozen=True)
class Evidence:
    """What scores may look at beside the weights: normalized images `(N, C, H, W)`, and the loss of outputs for them.

    `loss(outputs, start)` is the mean loss of the outputs for the images from number `start` on.
    """

    images: Tensor
    loss: Callable[[Tensor, int], Tensor]
    seed: int = 0

    def batches(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of the first image, and the images, some at a time."""
        for start in range(0, len(self.images), BATCH):
            yield start, self.images[start : start + BATCH]


@dataclass(frozen=True)
class Score(ABC):
    """One way to score. Subclasses are decorated with `@scores.register("name")`."""

    __pydantic_config__ = STRICT

    needs_images: ClassVar[bool] = False
    """Whether the network is run on images."""

    comparable: ClassVar[bool] = False
    """Whether scores of different sites mean the same; those of other sites are brought to a sum of 1 per site."""

    @abstractmethod
    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        """Return a tensor `(units,)` for each site, 0 or more: what is lost with each unit."""


scores: Registry[type[Score]] = Registry("score", ("edgepress.prune.scores",))


def per_unit(site: Site, member: Member, values: Tensor) -> Tensor:
    """Return, for each unit, the sum of `values` (one per position along the last axis of that side)."""
    found = torch.zeros(*values.shape[:-1], len(site.units), dtype=values.dtype, device=values.device)
    picked = values.index_select(-1, member.positions.to(values.device) % values.shape[-1])
    return found.index_add_(-1, member.units.to(values.device), picked)


def weighted(module: nn.Module, site: Site, side: str) -> Iterator[tuple[Member, nn.Module, Tensor]]:
    """Yield the members of `site` on `side` that have a kernel: member, layer, and its weight as `(channels, rest)`."""
    for member in site.members:
        layer = module.get_submodule(member.path)
        if member.side == side and isinstance(layer, LAYERS):
            weight = columns(layer, layer.weight.detach().float())
            yield member, layer, (weight if side == "out" else weight.transpose(0, 1)).flatten(1)


def consumers(module: nn.Module, site: Site) -> list[tuple[Member, nn.Module]]:
    """Return the layers that take the channels of `site`, depthwise convolutions aside: they only pass them on."""
    parts = [(m, module.get_submodule(m.path)) for m in site.members if m.side == "in"]
    return [(m, p) for m, p in parts if isinstance(p, LAYERS)]


def channels_last(layer: nn.Module, values: Tensor) -> Tensor:
    """Return what a layer takes as `(N, places, channels)`."""
    if isinstance(layer, nn.Linear):
        return values.reshape(values.shape[0], -1, values.shape[-1])
    return values.flatten(2).transpose(1, 2)


Look = Callable[[nn.Module, Tensor, Tensor | None], None]
"""Called with a layer, what it took, and the gradient of the loss with respect to that."""


def watch(module: nn.Module, layers: Sequence[nn.Module], evidence: Evidence, look: Look, gradients: bool) -> None:
    """Run `module` in evaluation mode on the images and show `look` what each of `layers` takes.

    With `gradients` the loss (summed over images, so that each image's gradient is its own) is differentiated, and what
    is shown comes with its gradient: the part of it that comes back through that layer, not through others that take
    the same tensor.
    """
    taken: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        own = inputs[0].view_as(inputs[0])
        if gradients and own.requires_grad:
            own.retain_grad()
        taken[layer] = own
        return (own, *inputs[1:])

    with contextlib.ExitStack() as stack, evaluating(module):
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(keep).remove)
        # The weights' own gradients are asked for by nobody, and those of narrow strided 1x1 convolutions overflow in
        # oneDNN (uxlfoundation/oneDNN#6035).
        for weight in [p for p in module.parameters() if p.requires_grad]:
            stack.callback(weight.requires_grad_, True)
            weight.requires_grad_(False)
        stack.enter_context(torch.set_grad_enabled(gradients))
        for start, images in evidence.batches():
            outputs = module(images.clone().requires_grad_(gradients))
            if gradients:
                (evidence.loss(outputs, start) * len(images)).backward()
            with torch.no_grad():
                for layer, values in taken.items():
                    look(layer, values.detach(), values.grad)
            taken.clear()


def gate_gradients(
    module: nn.Module, sites: Sequence[Site], evidence: Evidence, take: Callable[[int, Tensor], None]
) -> None:
    """Call `take(site, values)` for each batch with `(images, units)`: the derivative of each image's loss with respect
    to a factor on the unit, that is, to first order, what the loss falls by when the unit goes."""
    users: dict[nn.Module, list[tuple[int, Member]]] = {}
    for number, site in enumerate(sites):
        for member, layer in consumers(module, site):
            users.setdefault(layer, []).append((number, member))
    batch: dict[int, Tensor] = {}
    waiting = set(users)

    def look(layer: nn.Module, values: Tensor, gradient: Tensor | None) -> None:
        if gradient is not None:
            product = channels_last(layer, values * gradient).sum(1)
            for number, member in users[layer]:
                found = per_unit(sites[number], member, product)
                batch[number] = batch[number] + found if number in batch else found
        waiting.discard(layer)
        if not waiting:
            for number, found in batch.items():
                take(number, found)
            batch.clear()
            waiting.update(users)

    watch(module, list(users), evidence, look, gradients=True)
