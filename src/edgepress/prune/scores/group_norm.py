"""The norm of everything that hangs together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Site
from edgepress.prune.scores.base import Evidence, Score, per_unit, scores, weighted


@scores.register("group_norm")
@dataclass(frozen=True)
class GroupNorm(Score):
    """The L2 norm of all weights that go with a unit, of the layers that make it and of those that take it.

    Fang et al., "DepGraph: Towards Any Structural Pruning", 2023.
    """

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        found: list[Tensor] = []
        for site in sites:
            total = torch.zeros(len(site.units))
            for side in ("out", "in"):
                for member, _, weight in weighted(module, site, side):
                    total += per_unit(site, member, _spread(member.positions, weight.square().sum(1)))
            found.append(total.sqrt())
        return found


def _spread(positions: Tensor, values: Tensor) -> Tensor:
    """Return values for every position; a grouped convolution has weights for those of one group only."""
    return values if int(positions.max()) < len(values) else values.repeat(int(positions.max()) // len(values) + 1)
