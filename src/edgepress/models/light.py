"""Small networks of our own: a light CNN for 32x32 images, and three for the 8x8 digits."""

import math

from torch import Tensor, nn

from edgepress.models.base import model
from edgepress.models.cifar_resnet import doubling


class LightCNN(nn.Module):
    """A stem and `blocks` depthwise-separable blocks (3x3 depthwise, 1x1 pointwise, each with batch normalization).

    The 1st, 3rd and 5th block halve the image and the 1st, 2nd, 3rd and 5th double the width, so that most of the work
    is in 1x1 convolutions, which integer kernels run best.
    """

    def __init__(self, width: int, blocks: int, classes: int, channels: int) -> None:
        super().__init__()
        layers = [*_conv(channels, width, 3, 1, 1)]
        inputs = width
        for block in range(blocks):
            stride = 2 if block in (0, 2, 4) else 1
            outputs = inputs * 2 if block in (0, 1, 2, 4) else inputs
            layers += [*_conv(inputs, inputs, 3, stride, inputs), *_conv(inputs, outputs, 1, 1, 1)]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes)`."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


class MLP(nn.Module):
    """Fully connected layers with ReLU between them, on the flattened image."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        for outputs in hidden:
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes)`."""
        return self.layers(x)


@model("light_cnn", twin={"width": 4, "blocks": 3}, size=16)
def light_cnn(classes: int, channels: int, width: int = 16, blocks: int = 7) -> nn.Module:
    """Depthwise-separable CNN, 0.23 M parameters at its default size."""
    return LightCNN(width, blocks, classes, channels)


@model("mlp", twin={"hidden": [8]}, size=8)
def mlp(
    classes: int, channels: int, hidden: tuple[int, ...] | list[int] = (128, 64), size: tuple[int, int] = (8, 8)
) -> nn.Module:
    """Fully connected network with hidden layers of the widths `hidden`."""
    return MLP(channels * math.prod(size), tuple(hidden), classes)


@model("digits_cnn", twin={"width": 4}, size=8)
def digits_cnn(classes: int, channels: int, width: int = 8) -> nn.Module:
    """The student of the demo: three 3x3 convolutions with batch normalization, the last two with stride 2."""
    return nn.Sequential(
        *_conv(channels, width, 3, 1, 1),
        *_conv(width, 2 * width, 3, 2, 1),
        *_conv(2 * width, 2 * width, 3, 2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )


@model("digits_resnet", twin={"width": 4}, size=8)
def digits_resnet(classes: int, channels: int, width: int = 32, blocks: int = 1) -> nn.Module:
    """The teacher of the demo: the CIFAR ResNet layout, twice as wide, with 1x1 shortcuts."""
    return doubling(blocks, width, classes, channels, "B")
