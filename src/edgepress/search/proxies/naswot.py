"""Activation patterns."""

from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.errors import EdgepressError
from edgepress.models.hooks import hooked
from edgepress.search.proxies.base import proxies

KINDS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU)


@proxies.register("naswot")
def naswot(module: nn.Module, images: Tensor) -> float:
    """Return `log |det K|`, where `K[i, j]` counts the activations that images i and j switch alike.

    Mellor et al., "Neural Architecture Search without Training", 2021: a network that tells images apart before it is
    trained learns more. It looks at the modules that are activations; raises `EdgepressError` where there are none.
    """
    count = len(images)
    kernel = torch.zeros(count, count, dtype=torch.float64)

    def look(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        on = (inputs[0].flatten(1) > 0).double()
        kernel.add_(on @ on.T + (1 - on) @ (1 - on).T)

    activations = [part for part in module.modules() if isinstance(part, KINDS)]
    if not activations:
        raise EdgepressError(f"naswot: this {type(module).__name__} has no activation modules; take synflow")
    with hooked(activations, look), torch.no_grad():
        # Batch norms see the batch: with the statistics of a fresh network they would do nothing.
        module.train()(images)
    return float(torch.linalg.slogdet(kernel).logabsdet.clamp_min(-1e6))
