"""Torch-Pruning's own pruner on a CIFAR ResNet, as its documentation recommends: group magnitude, weighed globally.

https://github.com/VainF/Torch-Pruning: `BasePruner` with `GroupMagnitudeImportance(p=2)`, stepped until the network has
as few multiply-accumulates as asked for. The network itself is ours: the published weights belong to it.
"""

from pathlib import Path

import torch
import torch_pruning
from torch import nn

STEPS = 400


def pruned_resnet(classes: int, channels: int, checkpoint: str, macs: int, depth: int = 56) -> nn.Module:
    """Return the ResNet of `checkpoint`, cut to at most `macs` multiply-accumulates for an image of 32x32."""
    from edgepress.core.artifact import Signature
    from edgepress.core.inputs import InputSpec
    from edgepress.models.build import new_model
    from edgepress.models.weights import load_weights

    labels = tuple(f"class {number}" for number in range(classes))
    signature = Signature("classification", InputSpec(32, 32, channels), labels)
    module = new_model(f"cifar_resnet{depth}", signature, {}, 0).module.eval()
    load_weights(module, Path(checkpoint))
    image = torch.zeros(1, channels, 32, 32)
    pruner = torch_pruning.pruner.BasePruner(
        module,
        image,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=1.0,
        max_pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[part for part in module.modules() if isinstance(part, nn.Linear)],
    )
    for _ in range(STEPS):
        pruner.step()
        if torch_pruning.utils.count_ops_and_params(module, image)[0] <= macs:
            break
    return module
