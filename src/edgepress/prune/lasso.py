"""Pressure towards whole units of zero, for training before a cut."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgepress.cost.shapes import LAYERS
from edgepress.prune.graph import Site, columns
from edgepress.prune.scores.base import per_unit


def group_lasso(module: nn.Module, sites: Sequence[Site]) -> Tensor:
    """Return the sum over all units of the norm of the weights that go with them, a differentiable scalar.

    Weights of the layers that make a unit and of those that take it form one group; a norm counts times the square root
    of the group's size. Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006; Wen
    et al., "Learning Structured Sparsity in Deep Neural Networks", 2016. In a recipe it is the loss `group_lasso`.
    """
    device = next(module.parameters()).device
    total = torch.zeros((), device=device)
    for site in sites:
        squares, sizes = torch.zeros(len(site.units), device=device), torch.zeros(len(site.units), device=device)
        for member in site.members:
            layer = module.get_submodule(member.path)
            if isinstance(layer, LAYERS):
                weight = columns(layer, layer.weight)
                rows = (weight if member.side == "out" else weight.transpose(0, 1)).flatten(1)
                squares = squares + per_unit(site, member, rows.square().sum(1))
                sizes = sizes + per_unit(site, member, torch.full_like(rows[:, 0], rows.shape[1]))
        total = total + ((squares + 1e-12) * sizes).sqrt().sum()
    return total
