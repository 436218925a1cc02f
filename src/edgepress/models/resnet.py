"""ResNet-18 to ResNet-152: He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.1.

The names of the weights are torchvision's. For inputs whose shorter side is under 96 pixels the 7x7 stem with stride 2
and the max-pool behind it become one 3x3 convolution with stride 1 (as usual for CIFAR), unless `small` says otherwise.
"""

from typing import Any

from torch import Tensor, nn

from edgepress.models.base import model

SMALL_BELOW = 96
"""Shorter side, in pixels, under which a stem keeps the resolution of the image."""


def is_small(small: bool | None, size: tuple[int, int]) -> bool:
    """Return `small` where it is given, else whether an input of `size` (height, width) is a small one."""
    return min(size) < SMALL_BELOW if small is None else small


class ResNet(nn.Module):
    """Four stages of blocks of torchvision's class `block`, widths 1x, 2x, 4x, 8x of `width`."""

    def __init__(
        self, block: Any, counts: tuple[int, ...], width: int, classes: int, channels: int, small: bool
    ) -> None:
        super().__init__()
        if small:
            self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        e = block.expansion
        self.layer1 = _stage(block, width, width, counts[0], 1)
        self.layer2 = _stage(block, width * e, width * 2, counts[1], 2)
        self.layer3 = _stage(block, width * 2 * e, width * 4, counts[2], 2)
        self.layer4 = _stage(block, width * 4 * e, width * 8, counts[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width * 8 * e, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes)`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(block: Any, inputs: int, planes: int, count: int, stride: int) -> nn.Sequential:
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(block(inputs, planes, stride, shortcut), *(block(outputs, planes) for _ in range(count - 1)))


@model("resnet18", twin={"width": 4})
def resnet18(
    classes: int, channels: int, width: int = 64, small: bool | None = None, size: tuple[int, int] = (32, 32)
) -> nn.Module:
    """ResNet-18, 11.2 M parameters."""
    from torchvision.models.resnet import BasicBlock

    return ResNet(BasicBlock, (2, 2, 2, 2), width, classes, channels, is_small(small, size))


@model("resnet34", twin={"width": 4})
def resnet34(
    classes: int, channels: int, width: int = 64, small: bool | None = None, size: tuple[int, int] = (32, 32)
) -> nn.Module:
    """ResNet-34, 21.3 M parameters."""
    from torchvision.models.resnet import BasicBlock

    return ResNet(BasicBlock, (3, 4, 6, 3), width, classes, channels, is_small(small, size))


@model("resnet50", twin={"width": 4})
def resnet50(
    classes: int, channels: int, width: int = 64, small: bool | None = None, size: tuple[int, int] = (32, 32)
) -> nn.Module:
    """ResNet-50, 23.5 M parameters; the stride of a bottleneck sits on its 3x3 convolution, as in torchvision."""
    from torchvision.models.resnet import Bottleneck

    return ResNet(Bottleneck, (3, 4, 6, 3), width, classes, channels, is_small(small, size))


@model("resnet152", twin={"width": 4})
def resnet152(
    classes: int, channels: int, width: int = 64, small: bool | None = None, size: tuple[int, int] = (32, 32)
) -> nn.Module:
    """ResNet-152, 58.2 M parameters."""
    from torchvision.models.resnet import Bottleneck

    return ResNet(Bottleneck, (3, 8, 36, 3), width, classes, channels, is_small(small, size))
