"""The scale of batch norms."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepress.prune.graph import NORMS, Site
from edgepress.prune.scores.base import Evidence, Score, per_unit, scores, weighted


@scores.register("bn_scale")
@dataclass(frozen=True)
class BatchNormScale(Score):
    """The mean absolute scale of a unit's batch norms. Liu et al., "Network Slimming", 2017.

    A site without batch norm (attention, fully connected layers) is scored by the L1 norm of its rows: its units are
    compared with each other only.
    """

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        return [self._one(module, site) for site in sites]

    def _one(self, module: nn.Module, site: Site) -> Tensor:
        total, norms = torch.zeros(len(site.units)), 0
        for member in site.members:
            norm = module.get_submodule(member.path)
            if isinstance(norm, NORMS) and norm.affine:
                total += per_unit(site, member, norm.weight.detach().float().abs())
                norms += 1
        if not norms:
            for member, _, weight in weighted(module, site, "out"):
                total += per_unit(site, member, weight.abs().sum(1))
        return total
