"""ResNets for 32x32 images: He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.2.

The layout and the names of the weights are those of the widely used public CIFAR-10 checkpoints, which load as they are
(strictly, once the prefix `module.` is stripped).
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from edgepress.core.errors import ConfigError
from edgepress.models.base import model

Shortcut = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new. It has no weights.

    `before` and `after` are the channels of zeros put on either side.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, H, W)` to `(N, before + C + after, ceil(H / 2), ceil(W / 2))`."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        if stride == 1 and inputs == outputs:
            self.shortcut: nn.Module = nn.Identity()
        elif shortcut == "A":
            new = outputs - inputs
            self.shortcut = PadShortcut(new // 2, new - new // 2)
        else:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H / stride, W / stride)`."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """A 3x3 stem of `widths[0]` channels, stages of so many basic `blocks` and channels, global average pooling, one
    layer. Every stage but the first halves the image.

    `shortcut` "A" is the paper's choice for CIFAR (no weights); "B" is a 1x1 convolution with a bias and without
    batch normalization, as in MLPerf Tiny's ResNet-8.
    """

    def __init__(
        self, blocks: Sequence[int], widths: Sequence[int], classes: int, channels: int, shortcut: Shortcut
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1 = nn.Conv2d(channels, first, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU()
        self.layer1 = _stage(first, first, blocks[0], 1, shortcut)
        self.layer2 = _stage(first, second, blocks[1], 2, shortcut)
        self.layer3 = _stage(second, third, blocks[2], 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(third, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes)`."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.pool(x).flatten(1))


def _stage(inputs: int, outputs: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    shapes = [(inputs, stride), *[(outputs, 1)] * (blocks - 1)][:blocks]
    return nn.Sequential(*(BasicBlock(n, outputs, s, shortcut) for n, s in shapes))


def doubling(blocks: int, width: int, classes: int, channels: int, shortcut: Shortcut) -> nn.Module:
    """Return the ResNet of `blocks` in each stage, with twice the channels of the stage before."""
    return CifarResNet((blocks,) * 3, (width, 2 * width, 4 * width), classes, channels, shortcut)


@model("cifar_resnet", twin={"blocks": [0, 1, 2], "widths": [4, 8, 12]}, size=16)
def cifar_resnet(
    classes: int,
    channels: int,
    blocks: Sequence[int] = (1, 1, 1),
    widths: Sequence[int] = (16, 32, 64),
    shortcut: Shortcut = "B",
) -> nn.Module:
    """A ResNet of three stages whose blocks and channels are chosen one by one, for a search.

    No block in the first stage leaves the stem alone there. As it stands it is ResNet-8. Raises `ConfigError` for
    numbers that make no network.
    """
    if len(blocks) != 3 or min(blocks) < 0 or 0 in blocks[1:]:
        raise ConfigError(f"blocks must be three numbers, the second and the third at least 1, got {list(blocks)}")
    if len(widths) != 3 or min(widths) < 1:
        raise ConfigError(f"widths must be three numbers of at least 1, got {list(widths)}")
    if shortcut == "A" and sorted(widths) != list(widths):
        raise ConfigError(f'widths must not fall where shortcut is "A", which adds zeros, got {list(widths)}')
    return CifarResNet(blocks, widths, classes, channels, shortcut)


@model("cifar_resnet8", twin={"width": 4}, size=16)
def cifar_resnet8(classes: int, channels: int, width: int = 16, shortcut: Shortcut = "B") -> nn.Module:
    """ResNet-8 of MLPerf Tiny (Banbury et al., 2021): one block a stage, 1x1 shortcuts; 77,946 parameters with ten
    classes (the Keras original counts 78,666: it adds running statistics and biases that batch normalization cancels).
    """
    return doubling(1, width, classes, channels, shortcut)


@model("cifar_resnet20", twin={"width": 4}, size=16)
def cifar_resnet20(classes: int, channels: int, width: int = 16, shortcut: Shortcut = "A") -> nn.Module:
    """ResNet-20, 0.27 M parameters."""
    return doubling(3, width, classes, channels, shortcut)


@model("cifar_resnet32", twin={"width": 4}, size=16)
def cifar_resnet32(classes: int, channels: int, width: int = 16, shortcut: Shortcut = "A") -> nn.Module:
    """ResNet-32, 0.46 M parameters."""
    return doubling(5, width, classes, channels, shortcut)


@model("cifar_resnet44", twin={"width": 4}, size=16)
def cifar_resnet44(classes: int, channels: int, width: int = 16, shortcut: Shortcut = "A") -> nn.Module:
    """ResNet-44, 0.66 M parameters."""
    return doubling(7, width, classes, channels, shortcut)


@model("cifar_resnet56", twin={"width": 4}, size=16)
def cifar_resnet56(classes: int, channels: int, width: int = 16, shortcut: Shortcut = "A") -> nn.Module:
    """ResNet-56, 0.85 M parameters."""
    return doubling(9, width, classes, channels, shortcut)


@model("cifar_resnet110", twin={"width": 2}, size=16)
def cifar_resnet110(classes: int, channels: int, width: int = 16, shortcut: Shortcut = "A") -> nn.Module:
    """ResNet-110, 1.7 M parameters."""
    return doubling(18, width, classes, channels, shortcut)
