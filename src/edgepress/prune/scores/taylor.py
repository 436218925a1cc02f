"""First-order change of the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Site
from edgepress.prune.scores.base import Evidence, Score, gate_gradients, scores


@scores.register("taylor")
@dataclass(frozen=True)
class Taylor(Score):
    """The mean over images of `|activation x gradient|`, summed over the places of a unit first.

    Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017.
    """

    needs_images: ClassVar[bool] = True
    comparable: ClassVar[bool] = True

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        found = [torch.zeros(len(site.units)) for site in sites]

        def take(number: int, values: Tensor) -> None:
            found[number] += values.abs().sum(0).cpu() / len(evidence.images)

        gate_gradients(module, sites, evidence, take)
        return found
