"""No opinion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Site
from edgepress.prune.scores.base import Evidence, Score, scores


@scores.register("random")
@dataclass(frozen=True)
class Random(Score):
    """Uniform random numbers: the baseline that a score has to beat. Mittal et al., 2018."""

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        generator = torch.Generator().manual_seed(evidence.seed)
        return [torch.rand(len(site.units), generator=generator) for site in sites]
