"""The networks for segmentation: their sizes as published, any input size, and what they refuse."""

from typing import Any

import pytest
import torch

from edgepress.core.artifact import Signature
from edgepress.core.errors import ConfigError, UnknownNameError
from edgepress.core.inputs import InputSpec
from edgepress.models.build import new_model
from edgepress.models.unet import UNet


def made(name: str, size: tuple[int, int], classes: int = 4, **arguments: Any) -> torch.nn.Module:
    signature = Signature("segmentation", InputSpec(*size), tuple(f"class {k}" for k in range(classes)))
    return new_model(name, signature, arguments, seed=0).module.eval()


@pytest.mark.parametrize(
    ("width", "depth", "up", "millions"),
    [(64, 4, "transposed", 31.04), (96, 4, "transposed", 69.8), (12, 4, "nearest", 1.11), (6, 4, "nearest", 0.277)],
)
def test_the_sizes_of_the_issue(width: int, depth: int, up: Any, millions: float) -> None:
    with torch.device("meta"):
        net = UNet(width, depth, 11, 3, up)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("up", ["nearest", "bilinear", "transposed"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(16, 24), (19, 27)])
def test_a_unet_keeps_any_size(up: str, stride: int, size: tuple[int, int]) -> None:
    net = made("unet", size, width=4, depth=2, up=up, stride=stride)
    assert net(torch.zeros(1, 3, *size)).shape == (1, 4, *size)


def test_default_arguments_build_what_older_models_were() -> None:
    names = list(UNet(4, 1, 2, 3).state_dict())
    assert names[0] == "stem.0.weight" and "up.0.0.weight" in names and not any("grow" in name for name in names)


@pytest.mark.parametrize("size", [(64, 96), (75, 100)])
def test_fast_scnn(size: tuple[int, int]) -> None:
    net = made("fast_scnn", size, width=0.25)
    assert net(torch.zeros(1, 3, *size)).shape == (1, 4, *size)


def test_fast_scnn_has_the_size_of_the_paper() -> None:
    net = made("fast_scnn", (512, 1024), classes=19)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(1.11e6, rel=0.06)


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("unet", {"up": "cubic"}, "'nearest', 'bilinear' or 'transposed'"),
        ("unet", {"stride": 3}, "stride 1, 2 or 4"),
        ("unet", {"depth": 6}, "needs 64 pixels a side, got 40x64"),
        ("fast_scnn", {"width": 0}, "above 0"),
        ("fast_scnn", {}, "needs 64 pixels a side, got 40x64"),
    ],
)
def test_what_cannot_be_built(name: str, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        made(name, (40, 64), **fields)


def test_networks_of_the_library() -> None:
    pytest.importorskip("segmentation_models_pytorch")
    small = {"encoder_depth": 3, "decoder_channels": [16, 8, 8]}
    net = made("smp:unet", (45, 60), encoder_name="tu-mobilenetv3_small_050", **small)
    assert net(torch.zeros(1, 3, 45, 60)).shape == (1, 4, 45, 60)
    assert made("smp:FPN", (64, 64), encoder_name="resnet18")(torch.zeros(1, 3, 64, 64)).shape == (1, 4, 64, 64)
    with pytest.raises(UnknownNameError, match="did you mean 'Unet'"):
        made("smp:Unett", (64, 64))
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        made("smp:Unet", (64, 64), encoder_name="resnet17")
    with pytest.raises(ConfigError, match="does not take these arguments"):
        made("smp:Unet", (64, 64), encoder_name="resnet18", depth=3)
