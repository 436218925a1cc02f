"""Fast-SCNN: Poudel, Liwicki and Cipolla, "Fast-SCNN: Fast Semantic Segmentation Network", BMVC 2019."""

from torch import Tensor, nn
from torch import cat as concatenate

from edgepress.core.errors import ConfigError
from edgepress.models.base import model


class ConvBlock(nn.Sequential):
    """A convolution with batch normalization and, where `active`, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        super().__init__(*layers, *([nn.ReLU()] if active else []))


class Separable(nn.Sequential):
    """A depthwise 3x3 and a 1x1 convolution, both normalized and active."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(ConvBlock(inputs, inputs, 3, stride, inputs), ConvBlock(inputs, outputs, 1))


class Bottleneck(nn.Module):
    """The inverted residual of MobileNetV2: 1x1 to `6 * inputs`, depthwise 3x3, 1x1 back."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = 6 * inputs
        self.layers = nn.Sequential(
            ConvBlock(inputs, inner, 1),
            ConvBlock(inner, inner, 3, stride, inner),
            ConvBlock(inner, outputs, 1, 1, 1, False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H / stride, W / stride)`."""
        return x + self.layers(x) if self.residual else self.layers(x)


class Pyramid(nn.Module):
    """Averages over 1, 2, 3 and 6 cells a side, each reduced to a quarter of the channels, beside the map itself
    (PSPNet, Zhao et al., CVPR 2017). `size` is that of the map: a cell's pixels are counted beforehand, since runtimes
    lack adaptive pooling."""

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        cells = [cell for cell in (1, 2, 3, 6) if cell <= min(size)]
        self.pools = nn.ModuleList(_cells(cell, size) for cell in cells)
        self.reduce = nn.ModuleList(ConvBlock(channels, channels // 4, 1) for _ in cells)
        self.join = ConvBlock(channels + len(cells) * (channels // 4), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to the same shape."""
        size = x.shape[2:]
        parts = [
            nn.functional.interpolate(reduce(pool(x)), size=size, mode="bilinear")
            for pool, reduce in zip(self.pools, self.reduce, strict=True)
        ]
        return self.join(concatenate([x, *parts], 1))


class FastSCNN(nn.Module):
    """Learning to down-sample (an eighth of the side), global features at a 32nd, their fusion, a light classifier.

    `widths` are the channels of the three first convolutions, of the three stages of bottlenecks, and of the fusion.
    """

    def __init__(self, widths: tuple[int, ...], classes: int, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        a, b, c, d, e, f, fused = widths
        self.down = nn.Sequential(ConvBlock(channels, a, 3, 2), Separable(a, b, 2), Separable(b, c, 2))
        stages = [(c, d, 2), (d, d, 1), (d, d, 1), (d, e, 2), (e, e, 1), (e, e, 1), (e, f, 1), (f, f, 1), (f, f, 1)]
        self.features = nn.Sequential(*(Bottleneck(*stage) for stage in stages))
        for _ in range(5):  # strides 2, 2, 2 and 2, 2, rounded up as padded convolutions do
            size = (-(-size[0] // 2), -(-size[1] // 2))
        self.context = Pyramid(f, size)
        self.low = nn.Sequential(ConvBlock(f, f, 3, 1, f), ConvBlock(f, fused, 1, active=False))
        self.high = ConvBlock(c, fused, 1, active=False)
        self.relu = nn.ReLU()
        self.classify = nn.Sequential(Separable(fused, fused), Separable(fused, fused), nn.Dropout(0.1))
        self.head = nn.Conv2d(fused, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes, H, W)`."""
        detail = self.down(x)
        context = self.context(self.features(detail))
        context = nn.functional.interpolate(context, size=detail.shape[2:], mode="bilinear")
        fused = self.relu(self.high(detail) + self.low(context))
        return nn.functional.interpolate(self.head(self.classify(fused)), size=x.shape[2:], mode="bilinear")


def _cells(count: int, size: tuple[int, int]) -> nn.Module:
    """Return average pooling that leaves `count` x `count` cells, which may overlap by a few pixels."""
    strides = [side // count for side in size]
    kernels = [side - (count - 1) * stride for side, stride in zip(size, strides, strict=True)]
    return nn.AvgPool2d((kernels[0], kernels[1]), (strides[0], strides[1]))


@model("fast_scnn", twin={"width": 0.25}, size=64, task="segmentation")
def fast_scnn(classes: int, channels: int, width: float = 1.0, size: tuple[int, int] = (512, 1024)) -> nn.Module:
    """Fast-SCNN with the paper's channels (1.1 M parameters) times `width`, made for an input of `size`.

    Raises `ConfigError` for a width that is not above 0, and for inputs below 64 pixels a side.
    """
    if not width > 0:
        raise ConfigError(f"fast_scnn: width is a factor above 0, got {width}")
    if min(size) < 64:
        raise ConfigError(f"fast_scnn halves its input five times and needs 64 pixels a side, got {size[0]}x{size[1]}")
    widths = tuple(max(8, 4 * round(width * channel / 4)) for channel in (32, 48, 64, 64, 96, 128, 128))
    return FastSCNN(widths, classes, channels, size)
