"""VGG with batch normalization and a small head, for small images.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015). Five groups of 3x3
convolutions with a max-pool between two groups; global average pooling and one linear layer in place of the three large
ones. With 100 classes `vgg8` and `vgg13` are the networks of the distillation literature (Tian et al., "Contrastive
Representation Distillation", 2020).
"""

from torch import Tensor, nn

from edgepress.models.base import model


class VGG(nn.Module):
    """`counts` convolutions in each of five groups of widths 1x, 2x, 4x, 8x, 8x of `width`. Needs 16x16 or more."""

    def __init__(self, counts: tuple[int, ...], width: int, classes: int, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for group, (count, times) in enumerate(zip(counts, (1, 2, 4, 8, 8), strict=True)):
            if group:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                conv = nn.Conv2d(inputs, times * width, 3, padding=1, bias=False)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                layers += [conv, nn.BatchNorm2d(times * width), nn.ReLU()]
                inputs = times * width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes)`."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


@model("vgg8", twin={"width": 4}, size=16)
def vgg8(classes: int, channels: int, width: int = 64) -> nn.Module:
    """VGG-8: one convolution a group, 3.9 M parameters."""
    return VGG((1, 1, 1, 1, 1), width, classes, channels)


@model("vgg11", twin={"width": 4}, size=16)
def vgg11(classes: int, channels: int, width: int = 64) -> nn.Module:
    """VGG-11, 9.2 M parameters."""
    return VGG((1, 1, 2, 2, 2), width, classes, channels)


@model("vgg13", twin={"width": 4}, size=16)
def vgg13(classes: int, channels: int, width: int = 64) -> nn.Module:
    """VGG-13: two convolutions a group, 9.4 M parameters."""
    return VGG((2, 2, 2, 2, 2), width, classes, channels)


@model("vgg16", twin={"width": 4}, size=16)
def vgg16(classes: int, channels: int, width: int = 64) -> nn.Module:
    """VGG-16, 14.7 M parameters."""
    return VGG((2, 2, 3, 3, 3), width, classes, channels)
