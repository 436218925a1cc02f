"""How large a network is, and how much it computes."""

import torch
from torch import nn

from edgepress.core.artifact import Signature
from edgepress.models.predictor import evaluating


def count_params(module: nn.Module) -> int:
    """Return the number of parameters; tied ones count once, buffers do not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, signature: Signature) -> int:
    """Return the multiply-accumulate operations for one image of `signature`'s size.

    Convolutions, matrix products and attention count, as everywhere in the literature; element-wise work does not.
    """
    from torch.utils.flop_counter import FlopCounterMode

    tensor = next(module.parameters(), torch.zeros(()))
    image = torch.zeros(1, *signature.input.shape, dtype=tensor.dtype, device=tensor.device)
    with evaluating(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(image)
    return counter.get_total_flops() // 2
