"""Second-order change of the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from edgepress.prune.graph import Site
from edgepress.prune.scores.base import Evidence, Score, gate_gradients, scores


@scores.register("hessian")
@dataclass(frozen=True)
class Hessian(Score):
    """Half the diagonal of the Hessian with respect to a factor on each unit, by the empirical Fisher information.

    The mean over images of the squared derivative: LeCun et al., "Optimal Brain Damage", 1990, with the approximation
    of Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018.
    """

    needs_images: ClassVar[bool] = True
    comparable: ClassVar[bool] = True

    def __call__(self, module: nn.Module, sites: Sequence[Site], evidence: Evidence) -> list[Tensor]:
        found = [torch.zeros(len(site.units)) for site in sites]

        def take(number: int, values: Tensor) -> None:
            found[number] += values.square().sum(0).cpu() / (2 * len(evidence.images))

        gate_gradients(module, sites, evidence, take)
        return found
