"""What the next layer misses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Member, Site, columns
from edgepress.prune.scores.base import Evidence, Score, channels_last, consumers, per_unit, scores, watch


@scores.register("reconstruction")
@dataclass(frozen=True)
class Reconstruction(Score):
    """The error of the features after the layers that take a unit, relative to their energy, when it goes.

    After Luo et al., "ThiNet", 2017, with correlations between channels left out: the variance of a unit's activations
    times the energy of the weights that take them. A constant unit loses nothing: statistics repair makes up for it.
    """

    needs_images: ClassVar[bool] = True
    comparable: ClassVar[bool] = True

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        users: dict[nn.Module, list[tuple[int, Member]]] = {}
        for number, site in enumerate(sites):
            for member, layer in consumers(module, site):
                users.setdefault(layer, []).append((number, member))
        sums: dict[nn.Module, Tensor] = {}

        def look(layer: nn.Module, values: Tensor, gradient: Tensor | None) -> None:
            flat = channels_last(layer, values).flatten(0, 1).double()
            parts = torch.stack([torch.full_like(flat[0], len(flat)), flat.sum(0), flat.square().sum(0)])
            sums[layer] = sums[layer] + parts if layer in sums else parts

        watch(module, list(users), evidence, look, gradients=False)
        found = [torch.zeros(len(site.units)) for site in sites]
        for layer, (count, total, squares) in sums.items():
            variance = (squares / count - (total / count) ** 2).clamp_min(0).float()
            weight: Tensor = layer.weight.detach().float()  # type: ignore[assignment]
            energy = columns(layer, weight).transpose(0, 1).flatten(1).square().sum(1)
            energy = energy.repeat(len(variance) // len(energy)) * variance
            relative = energy / energy.sum().clamp_min(1e-12)
            for number, member in users[layer]:
                found[number] += per_unit(sites[number], member, relative).cpu()
        return found
