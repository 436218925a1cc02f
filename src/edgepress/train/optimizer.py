"""The optimizers of the one loop."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from edgepress.train.fit import FitConfig


def make_optimizer(modules: Sequence[nn.Module], config: "FitConfig") -> torch.optim.Optimizer:
    """Return the optimizer of `config` over the trainable parameters of `modules`.

    Scales and shifts of normalization layers, and biases, are not decayed: it costs accuracy and regularizes nothing.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
