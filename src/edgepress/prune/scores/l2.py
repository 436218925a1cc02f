"""The Euclidean norm of weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Site
from edgepress.prune.scores.base import Evidence, Score, per_unit, scores, weighted


@scores.register("l2")
@dataclass(frozen=True)
class L2(Score):
    """The L2 norm of the filters that make a unit. He et al., "Soft Filter Pruning", 2018."""

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        return [self._one(module, site) for site in sites]

    def _one(self, module: nn.Module, site: Site) -> Tensor:
        total = torch.zeros(len(site.units))
        for member, _, weight in weighted(module, site, "out"):
            total += per_unit(site, member, weight.square().sum(1))
        return total.sqrt()
