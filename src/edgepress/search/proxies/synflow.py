"""Synaptic flow."""

import torch
from torch import Tensor, nn

from edgepress.search.proxies.base import proxies


@proxies.register("synflow")
def synflow(module: nn.Module, images: Tensor) -> float:
    """Return the logarithm of the summed path products: `sum(|w * dR/dw|)` with all weights made positive.

    Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", 2020, as a score
    of whole networks in Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", 2021. The images' size counts,
    what they show does not. It grows with the size of a network, so it chooses well only under a budget.
    """
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    module.zero_grad()
    with torch.enable_grad():
        module(torch.ones_like(images[:1], dtype=torch.float64)).sum().backward()
    total = sum(float((p * p.grad).detach().abs().sum()) for p in module.parameters() if p.grad is not None)
    return float(torch.tensor(total, dtype=torch.float64).clamp_min(1e-300).log())
