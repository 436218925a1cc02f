"""U-Net: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015)."""

from torch import Tensor, nn
from torch import cat as concatenate

from edgepress.core.errors import ConfigError
from edgepress.models.base import model


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions with batch normalization and ReLU; the size stays."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class UNet(nn.Module):
    """`depth` halvings and as many doublings, `width` channels at full size and twice as many at each level below.

    Padded convolutions and nearest-neighbor up-sampling to the size of the skip connection: any input of at least
    `2 ** depth` pixels a side works, odd sizes too, and the output has the size of the input.
    """

    def __init__(self, width: int, depth: int, classes: int, channels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.stem = DoubleConv(channels, width)
        self.down = nn.ModuleList(DoubleConv(widths[i], widths[i + 1]) for i in range(depth))
        self.up = nn.ModuleList(DoubleConv(widths[i] + widths[i + 1], widths[i]) for i in reversed(range(depth)))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes, H, W)`."""
        skips = [self.stem(x)]
        for block in self.down:
            skips.append(block(self.pool(skips[-1])))
        y = skips.pop()
        for block in self.up:
            skip = skips.pop()
            y = block(concatenate([skip, nn.functional.interpolate(y, size=skip.shape[2:])], 1))
        return self.head(y)


@model("unet", twin={"width": 4, "depth": 2}, size=16, task="segmentation")
def unet(classes: int, channels: int, width: int = 16, depth: int = 3, size: tuple[int, int] = (64, 64)) -> nn.Module:
    """U-Net of a quarter of the paper's width; raises `ConfigError` where the input is too small to halve so often."""
    if min(size) < 2**depth:
        raise ConfigError(
            f"a unet of depth {depth} halves its input {depth} times and needs {2**depth} pixels a side, got "
            f"{size[0]}x{size[1]}; choose a smaller depth"
        )
    return UNet(width, depth, classes, channels)
