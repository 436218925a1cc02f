"""The sum of absolute weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Site
from edgepress.prune.scores.base import Evidence, Score, per_unit, scores, weighted


@scores.register("l1")
@dataclass(frozen=True)
class L1(Score):
    """The L1 norm of the filters that make a unit. Li et al., "Pruning Filters for Efficient ConvNets", 2017."""

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        return [self._one(module, site) for site in sites]

    def _one(self, module: nn.Module, site: Site) -> Tensor:
        total = torch.zeros(len(site.units))
        for member, _, weight in weighted(module, site, "out"):
            total += per_unit(site, member, weight.abs().sum(1))
        return total
