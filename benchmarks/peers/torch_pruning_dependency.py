"""Torch-Pruning's own pruner on a CIFAR ResNet, as its documentation shows: group magnitude, every layer alike.

https://github.com/VainF/Torch-Pruning: `BasePruner` with `GroupMagnitudeImportance(p=2)`, stepped until the network has
as few multiply-accumulates as asked for; where the last step took more than the one before it lacked, that one counts:
all layers of one width lose a channel together, a ninth of the network. Its graph does not follow the zeros that the
public ResNets put beside the channels of a shortcut (it leaves a classifier of 60 inputs for 63 channels). Those two
shortcuts are therefore written as the 1x1 convolutions that compute the same; its own CIFAR networks have such
convolutions.
"""

import copy
from pathlib import Path

import torch
import torch_pruning
from torch import nn

from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec

STEPS = 160


def nearest_resnet(classes: int, channels: int, checkpoint: str, macs: int) -> nn.Module:
    """Return the ResNet-56 of `checkpoint`, cut to nearly `macs` multiply-accumulates for an image of 32x32."""
    from edgepress.models.count import count_macs

    labels = tuple(f"class {number}" for number in range(classes))
    signature = Signature("classification", InputSpec(32, 32, channels), labels)
    module = with_convolutions(signature, Path(checkpoint))
    pruner = torch_pruning.pruner.BasePruner(
        module,
        torch.zeros(1, channels, 32, 32),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=1.0,
        max_pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[part for part in module.modules() if isinstance(part, nn.Linear)],
    )
    before = module
    for _ in range(STEPS):
        if count_macs(module, signature) <= macs:
            break
        before = copy.deepcopy(module)
        pruner.step()
    return min(before, module, key=lambda one: abs(count_macs(one, signature) - macs))


def with_convolutions(signature: Signature, checkpoint: Path) -> nn.Module:
    """Return the public ResNet-56 with each padded shortcut as the convolution that computes the same."""
    from edgepress.models.build import new_model
    from edgepress.models.weights import load_weights

    padded = new_model("cifar_resnet56", signature, {}, 0).module.eval()
    load_weights(padded, checkpoint)
    module = new_model("cifar_resnet56", signature, {"shortcut": "B"}, 0).module.eval()
    missing = module.load_state_dict(padded.state_dict(), strict=False).missing_keys
    assert all(".shortcut." in name for name in missing), missing
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d) and name.endswith(".shortcut"):
            before = padded.get_submodule(name).before
            with torch.no_grad():
                part.weight.zero_()
                part.bias.zero_()
                for channel in range(part.in_channels):
                    part.weight[before + channel, channel] = 1.0
    return module
