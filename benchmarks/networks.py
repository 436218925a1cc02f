"""Networks that only figures need, built by `benchmarks.networks:name`."""

from torch import Tensor, nn

from edgepress.models.mobile import mobilenet_v2 as edgepress_mobilenet_v2


class AlexNet(nn.Module):
    """Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (2012), for 32x32 images.

    Widths, depth and the two hidden layers of 4096 are the paper's; the first kernel is 3x3 with stride 2 in place of
    11x11 with stride 4, and the last pool leaves 2x2. 23.5 M parameters with ten classes, nine tenths of them in the
    classifier. The weights start as He et al. (2015) draw them: PyTorch's are too small for so deep a network.
    """

    def __init__(self, width: int, hidden: int, classes: int, channels: int) -> None:
        super().__init__()
        widths = (width, 3 * width, 6 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        inputs = channels
        for number, outputs in enumerate(widths):
            kernel, stride = 5 if number == 1 else 3, 2 if number == 0 else 1
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU()]
            inputs = outputs
            if number in (0, 1, 4):
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(inputs * 4, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is not None:
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, 32, 32)` to logits `(N, classes)`."""
        return self.classifier(self.features(x).flatten(1))


def alexnet(classes: int, channels: int, width: int = 64, hidden: int = 4096) -> nn.Module:
    """AlexNet for 32x32 images."""
    return AlexNet(width, hidden, classes, channels)


def mobilenet_v2(classes: int, channels: int, width: float = 1.0) -> nn.Module:
    """MobileNetV2 for 32x32 images with the stride of 2 that its published stem has: the image is divided by 16.

    It takes a quarter of the multiply-accumulates of ours of that name, which keeps 32x32 in the stem: it trains in
    hours on a CPU.
    """
    module = edgepress_mobilenet_v2(classes, channels, width, small=True)
    stem = next(part for part in module.modules() if isinstance(part, nn.Conv2d))
    stem.stride = (2, 2)
    return module


def mobilenet_v2_half(classes: int, channels: int) -> nn.Module:
    """The MobileNetV2 of the literature's pairs: half the width and that stem, 0.82 M parameters with 100 classes."""
    return mobilenet_v2(classes, channels, 0.5)
