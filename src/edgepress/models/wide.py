"""Wide networks for 32x32 images, the usual teachers and students of the distillation literature.

- `wrn_40_2`, `wrn_16_2`: Zagoruyko and Komodakis, "Wide Residual Networks" (2016);
- `resnet32x4`, `resnet8x4`: four times wider CIFAR ResNets (Tian et al., "Contrastive Representation
  Distillation", 2020).
"""

from torch import Tensor, nn

from edgepress.models.base import model


class PreactBlock(nn.Module):
    """Batch normalization and ReLU before each of two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H / stride, W / stride)`."""
        ready = self.relu1(self.bn1(x))
        y = self.conv2(self.relu2(self.bn2(self.conv1(ready))))
        return y + (x if self.shortcut is None else self.shortcut(ready))


class WideResNet(nn.Module):
    """WRN-`depth`-`times`: three stages of `(depth - 4) / 6` pre-activation blocks, widths 1x, 2x, 4x of 16 `times`."""

    def __init__(self, depth: int, times: int, base: int, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, base, 3, 1, 1, bias=False)
        blocks, width = (depth - 4) // 6, base * times
        self.layer1 = _stage(PreactBlock, base, width, blocks, 1)
        self.layer2 = _stage(PreactBlock, width, width * 2, blocks, 2)
        self.layer3 = _stage(PreactBlock, width * 2, width * 4, blocks, 2)
        self.bn = nn.BatchNorm2d(width * 4)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width * 4, classes)
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes)`."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.pool(self.relu(self.bn(x))).flatten(1))


class WideBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut is a 1x1 convolution with batch normalization where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H / stride, W / stride)`."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + (x if self.downsample is None else self.downsample(x)))


class ResNetX4(nn.Module):
    """Depth `6 * blocks + 2`; a stem of `width` channels, stages of 2x, 4x and 8x that width."""

    def __init__(self, blocks: int, width: int, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(WideBlock, width, width * 2, blocks, 1)
        self.layer2 = _stage(WideBlock, width * 2, width * 4, blocks, 2)
        self.layer3 = _stage(WideBlock, width * 4, width * 8, blocks, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width * 8, classes)
        _initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes)`."""
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.pool(x).flatten(1))


def _stage(
    block: type[PreactBlock] | type[WideBlock], inputs: int, outputs: int, count: int, stride: int
) -> nn.Sequential:
    return nn.Sequential(block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(count - 1)))


def _initialize(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


@model("wrn_40_2", twin={"width": 4}, size=16)
def wrn_40_2(classes: int, channels: int, width: int = 16) -> nn.Module:
    """WRN-40-2, 2.2 M parameters."""
    return WideResNet(40, 2, width, classes, channels)


@model("wrn_16_2", twin={"width": 4}, size=16)
def wrn_16_2(classes: int, channels: int, width: int = 16) -> nn.Module:
    """WRN-16-2, 0.69 M parameters."""
    return WideResNet(16, 2, width, classes, channels)


@model("resnet32x4", twin={"width": 4}, size=16)
def resnet32x4(classes: int, channels: int, width: int = 32) -> nn.Module:
    """ResNet-32x4, 7.4 M parameters."""
    return ResNetX4(5, width, classes, channels)


@model("resnet8x4", twin={"width": 4}, size=16)
def resnet8x4(classes: int, channels: int, width: int = 32) -> nn.Module:
    """ResNet-8x4, 1.2 M parameters."""
    return ResNetX4(1, width, classes, channels)
