"""Networks of segmentation_models_pytorch (MIT): U-Net, FPN, DeepLabV3+ and others on its own and timm's encoders."""

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from edgepress.core.errors import ConfigError, EdgepressError, MissingExtraError, UnknownNameError, suggest

STRIDE = 32


class Padded(nn.Module):
    """A network that wants sides divisible by 32, for images of any size: padded with zeros, its logits cut back."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, channels, H, W)` to logits `(N, classes, H, W)`."""
        height, width = x.shape[2:]
        down, across = -height % STRIDE, -width % STRIDE
        if not (down or across):
            return self.network(x)
        return self.network(nn.functional.pad(x, [0, across, 0, down]))[:, :, :height, :width]


def smp_model(name: str, classes: int, channels: int, arguments: Mapping[str, Any]) -> nn.Module:
    """Return the network `name` (`Unet`, `DeepLabV3Plus` ..., in any case) with random weights, unless the argument
    `encoder_weights` asks for published ones.

    Raises `MissingExtraError` where the library is absent, `UnknownNameError` and `ConfigError` for names and arguments
    it does not know, `EdgepressError` where published weights cannot be had.
    """
    try:
        smp: Any = importlib.import_module("segmentation_models_pytorch")
    except ModuleNotFoundError:
        raise MissingExtraError(f"model 'smp:{name}'", "segment") from None
    known = {arch.__name__.lower(): arch for arch in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if name.lower() not in known:
        raise UnknownNameError("smp model", name, [arch.__name__ for arch in known.values()])
    encoder = arguments.get("encoder_name", "resnet34")
    if not str(encoder).startswith("tu-") and encoder not in smp.encoders.encoders:
        raise ConfigError(
            f"model 'smp:{name}': no encoder {encoder!r}{suggest(str(encoder), smp.encoders.encoders)} (those of timm "
            "are called tu-<name>)"
        )
    fixed: dict[str, Any] = {"encoder_weights": None, "in_channels": channels, "classes": classes}
    try:
        return Padded(known[name.lower()](**(fixed | dict(arguments))))
    except (TypeError, KeyError, ValueError) as error:
        raise ConfigError(f"model 'smp:{name}' does not take these arguments: {error}") from error
    except (OSError, RuntimeError) as error:
        if not arguments.get("encoder_weights"):
            raise
        raise EdgepressError(
            f"the published weights of 'smp:{name}' with {encoder!r} could not be had ({error}); leave "
            "`encoder_weights` out, or give a file to a `load` stage"
        ) from error
