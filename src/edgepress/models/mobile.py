"""Networks made for telephones, adapted to small inputs. The blocks and the names of the weights are torchvision's.

They divide the image by 32; on 32x32 pixels that would leave one. Where the shorter side is under 96 pixels (or `small`
is true), the first two strides of 2 become 1, so that the image is divided by 8 and 32x32 ends as 4x4:

- `mobilenet_v3_small`: the stem and the first block;
- `mobilenet_v2`: the stem and the first 24-channel block;
- `efficientnet_b0`: the stem and the first 24-channel block.

`kernel` is the size of the depthwise kernels that are 5x5 in the papers, 3 for those who look for speed. Nothing else
differs: widths, the other kernels and squeeze-and-excitation are the papers', and published weights have the shapes
of ours (apart from the classifier).
"""

from functools import partial

from torch import nn

from edgepress.core.errors import ConfigError
from edgepress.models.base import model
from edgepress.models.resnet import is_small


@model("mobilenet_v3_small", twin={"width": 0.25})
def mobilenet_v3_small(
    classes: int,
    channels: int,
    width: float = 1.0,
    dropout: float = 0.2,
    kernel: int = 5,
    small: bool | None = None,
    size: tuple[int, int] = (32, 32),
) -> nn.Module:
    """Howard et al., "Searching for MobileNetV3" (2019); 1.53 M parameters with ten classes."""
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    tiny = is_small(small, size)
    wide = _odd(kernel)
    config = partial(InvertedResidualConfig, dilation=1, width_mult=width)
    module = MobileNetV3(
        [
            config(16, 3, 16, 16, True, "RE", 1 if tiny else 2),
            config(16, 3, 72, 24, False, "RE", 2),
            config(24, 3, 88, 24, False, "RE", 1),
            config(24, wide, 96, 40, True, "HS", 2),
            config(40, wide, 240, 40, True, "HS", 1),
            config(40, wide, 240, 40, True, "HS", 1),
            config(40, wide, 120, 48, True, "HS", 1),
            config(48, wide, 144, 48, True, "HS", 1),
            config(48, wide, 288, 96, True, "HS", 2),
            config(96, wide, 576, 96, True, "HS", 1),
            config(96, wide, 576, 96, True, "HS", 1),
        ],
        last_channel=InvertedResidualConfig.adjust_channels(1024, width),
        num_classes=classes,
        dropout=dropout,
    )
    return _with_stem(module, channels, tiny)


@model("mobilenet_v2", twin={"width": 0.1})
def mobilenet_v2(
    classes: int,
    channels: int,
    width: float = 1.0,
    dropout: float = 0.2,
    small: bool | None = None,
    size: tuple[int, int] = (32, 32),
) -> nn.Module:
    """Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018); 2.24 M parameters with ten
    classes."""
    from torchvision.models.mobilenetv2 import MobileNetV2

    tiny = is_small(small, size)
    settings = [  # expansion, channels, blocks, stride of the first
        [1, 16, 1, 1],
        [6, 24, 2, 1 if tiny else 2],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    module = MobileNetV2(classes, width, settings, dropout=dropout)
    return _with_stem(module, channels, tiny)


@model("efficientnet_b0", twin={"width": 0.1, "depth": 0.3})
def efficientnet_b0(
    classes: int,
    channels: int,
    width: float = 1.0,
    depth: float = 1.0,
    dropout: float = 0.2,
    kernel: int = 5,
    small: bool | None = None,
    size: tuple[int, int] = (32, 32),
) -> nn.Module:
    """Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019); 4.02 M parameters
    with ten classes."""
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    tiny = is_small(small, size)
    wide = _odd(kernel)
    config = partial(MBConvConfig, width_mult=width, depth_mult=depth)
    blocks = [
        config(1, 3, 1, 32, 16, 1),
        config(6, 3, 1 if tiny else 2, 16, 24, 2),
        config(6, wide, 2, 24, 40, 2),
        config(6, 3, 2, 40, 80, 3),
        config(6, wide, 1, 80, 112, 3),
        config(6, wide, 2, 112, 192, 4),
        config(6, 3, 1, 192, 320, 1),
    ]
    return _with_stem(EfficientNet(blocks, dropout, num_classes=classes), channels, tiny)


def _odd(kernel: int) -> int:
    """Return `kernel`; raise `ConfigError` unless a kernel of this size has a middle."""
    if kernel % 2 == 0 or not 1 <= kernel <= 11:
        raise ConfigError(f"kernel must be odd and from 1 to 11, got {kernel}")
    return kernel


def _with_stem(module: nn.Module, channels: int, tiny: bool) -> nn.Module:
    """Exchange the first convolution of a torchvision network where it must take other channels or keep the size."""
    name, old = next((n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d))
    if channels == old.in_channels and not tiny:
        return module
    stem = nn.Conv2d(channels, old.out_channels, 3, 1 if tiny else 2, 1, bias=old.bias is not None)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    module.set_submodule(name, stem)
    return module
