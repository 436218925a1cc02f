"""DenseNet-BC for small images: Huang et al., "Densely Connected Convolutional Networks" (2017)."""

from typing import Any

from torch import nn

from edgepress.models.base import model


@model("densenet_bc100", twin={"growth": 4, "layers": 2}, size=16)
def densenet_bc100(classes: int, channels: int, growth: int = 12, layers: int = 16) -> nn.Module:
    """DenseNet-BC with `growth` channels a layer and three dense blocks of `layers`: 100 deep, 0.77 M
    parameters.

    The blocks are torchvision's; the 7x7 stem with stride 2 is a 3x3 one with stride 1, and what follows it is gone.
    """
    from torchvision.models.densenet import DenseNet

    width = 2 * growth
    blocks: Any = (layers, layers, layers)  # torchvision's annotation asks for four, its code takes any number
    module = DenseNet(growth, blocks, width, num_classes=classes)
    module.features.set_submodule("conv0", nn.Conv2d(channels, width, 3, 1, 1, bias=False))
    for name in ("norm0", "relu0", "pool0"):  # the first dense layer begins with both, as every one does
        module.features.set_submodule(name, nn.Identity())
    return module
