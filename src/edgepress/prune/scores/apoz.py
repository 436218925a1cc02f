"""How often a unit says something."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Member, Site
from edgepress.prune.scores.base import Evidence, Score, channels_last, consumers, per_unit, scores, watch


@scores.register("apoz")
@dataclass(frozen=True)
class APoZ(Score):
    """One minus the average percentage of zeros of a unit's activations, where they enter the next layer.

    Hu et al., "Network Trimming", 2016. Activations without zeros (GELU, SiLU) count as zero below a thousandth of the
    largest of their layer.
    """

    needs_images: ClassVar[bool] = True

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        found = [torch.zeros(len(site.units)) for site in sites]
        users: dict[nn.Module, list[tuple[int, Member]]] = {}
        for number, site in enumerate(sites):
            for member, layer in consumers(module, site):
                users.setdefault(layer, []).append((number, member))

        def look(layer: nn.Module, values: Tensor, gradient: Tensor | None) -> None:
            limit = 1e-3 * values.abs().amax()
            spoken = (channels_last(layer, values).abs() > limit).float().mean(1).sum(0)
            for number, member in users[layer]:
                found[number] += per_unit(sites[number], member, spoken).cpu()

        watch(module, list(users), evidence, look, gradients=False)
        return found
