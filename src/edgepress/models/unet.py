"""U-Net: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015)."""

from typing import Literal

from torch import Tensor, nn
from torch import cat as concatenate

from edgepress.core.errors import ConfigError
from edgepress.models.base import model

Up = Literal["nearest", "bilinear", "transposed"]


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

    Padded convolutions; `up` says how a map grows to the size of the skip connection: the nearest pixel, bilinear, or
    the paper's transposed convolution, which halves the channels. With `stride` the first convolution leaves pixels
    out, and the logits grow back (bilinear). Any input of at least `stride * 2 ** depth` pixels a side works, odd sizes
    too, and the output has the size of the input.
    """

    def __init__(
        self, width: int, depth: int, classes: int, channels: int, up: Up = "nearest", stride: int = 1
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        levels = list(reversed(range(depth)))
        self.mode = up
        self.stem = DoubleConv(channels, width)
        if stride > 1:
            self.stem[0] = nn.Conv2d(channels, width, 2 * stride - 1, stride, stride - 1, bias=False)
        self.down = nn.ModuleList(DoubleConv(widths[i], widths[i + 1]) for i in range(depth))
        if up == "transposed":
            self.grow = nn.ModuleList(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, 2) for i in levels)
            self.up = nn.ModuleList(DoubleConv(2 * widths[i], widths[i]) for i in levels)
        else:
            self.up = nn.ModuleList(DoubleConv(widths[i] + widths[i + 1], widths[i]) for i in levels)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes, H, W)`."""
        size = x.shape[2:]
        skips = [self.stem(x)]
        for block in self.down:
            skips.append(block(self.pool(skips[-1])))
        y = skips.pop()
        for number, block in enumerate(self.up):
            skip = skips.pop()
            y = block(concatenate([skip, self._grown(y, skip, number)], 1))
        y = self.head(y)
        return y if y.shape[2:] == size else nn.functional.interpolate(y, size=size, mode="bilinear")

    def _grown(self, y: Tensor, skip: Tensor, number: int) -> Tensor:
        """Return `y` at the size of `skip`."""
        if self.mode == "nearest":
            return nn.functional.interpolate(y, size=skip.shape[2:])
        if self.mode == "transposed":
            y = self.grow[number](y)
            missing = [skip.shape[3] - y.shape[3], skip.shape[2] - y.shape[2]]
            return nn.functional.pad(y, [0, missing[0], 0, missing[1]]) if any(missing) else y
        return nn.functional.interpolate(y, size=skip.shape[2:], mode="bilinear")


@model("unet", twin={"width": 4, "depth": 2}, size=16, task="segmentation")
def unet(
    classes: int,
    channels: int,
    width: int = 16,
    depth: int = 3,
    up: Up = "nearest",
    stride: int = 1,
    size: tuple[int, int] = (64, 64),
) -> nn.Module:
    """U-Net of a quarter of the paper's width. With `up: transposed` and depth 4, width 64 is the paper's (31 M
    parameters), 96 has 70 M, 12 has 1.1 M, 6 has 0.3 M.

    Raises `ConfigError` where the input is too small to halve so often.
    """
    if up not in ("nearest", "bilinear", "transposed") or stride not in (1, 2, 4):
        raise ConfigError(f"unet: up is nearest, bilinear or transposed, stride 1, 2 or 4; got {up!r} and {stride}")
    if min(size) < stride * 2**depth:
        raise ConfigError(
            f"a unet of depth {depth} halves its input {depth} times and needs {stride * 2**depth} pixels a side, got "
            f"{size[0]}x{size[1]}; choose a smaller depth"
        )
    return UNet(width, depth, classes, channels, up, stride)
