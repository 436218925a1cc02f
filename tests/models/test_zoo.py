"""Every registered network, by its tiny twin; the sizes of the full ones against the literature."""

import numpy as np
import pytest
import torch

from edgepress.core.artifact import Builder
from edgepress.models.base import models, twins
from edgepress.models.build import build, new_model
from edgepress.models.count import count_macs, count_params
from edgepress.models.predictor import TorchPredictor
from edgepress.models.structure import load_model, save_model

NAMES = list(models)


def test_every_model_has_a_twin() -> None:
    assert list(twins) == NAMES
    assert {"cifar_resnet8", "resnet152", "mobilenet_v2", "unet", "digits_cnn"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_gray_images(name, sign) -> None:
    twin = twins.get(name)
    module = build(Builder(name, dict(twin.arguments)), sign(twin.size, 1, 4, twin.task)).eval()
    assert module(torch.zeros(1, 1, twin.size, twin.size)).shape[:2] == (1, 4)


@pytest.mark.parametrize("name", NAMES)
def test_twin_predicts_learns_and_survives_saving(name, sign, images, tmp_path) -> None:
    twin = twins.get(name)
    signature = sign(twin.size, 3, 5, twin.task)
    model = new_model(name, signature, dict(twin.arguments), seed=1)
    assert count_params(model.module) < 300_000

    batch = images(signature)
    outputs = TorchPredictor(model)(batch)
    pixels = (twin.size, twin.size) if twin.task == "segmentation" else ()
    assert outputs.shape == (3, 5, *pixels)
    assert np.isfinite(outputs).all()

    x = torch.rand(4, 3, twin.size, twin.size)
    model.module.train()(x).square().mean().backward()
    idle = [n for n, p in model.module.named_parameters() if p.grad is None]
    assert idle == [], "every parameter takes part"

    trained = TorchPredictor(model)(batch)  # running statistics have moved
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.builder == model.builder
    np.testing.assert_array_equal(TorchPredictor(again)(batch), trained)


@pytest.mark.parametrize(
    ("name", "classes", "params"),
    [
        ("cifar_resnet20", 10, 269_722),  # the public checkpoint's
        ("cifar_resnet56", 10, 853_018),
        ("cifar_resnet110", 10, 1_727_962),
        ("resnet8x4", 100, 1_233_540),  # these four: the tables of Contrastive Representation Distillation's code
        ("resnet32x4", 100, 7_433_860),
        ("wrn_40_2", 100, 2_255_156),
        ("wrn_16_2", 100, 703_284),
        ("densenet_bc100", 10, 769_162),  # Huang et al., table 2: 0.8 M
    ],
)
def test_sizes_of_the_literature(name, classes, params, sign) -> None:
    with torch.device("meta"):
        module = build(Builder(name), sign(32, 3, classes))
    assert count_params(module) == params


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_large_inputs_get_torchvisions_own_network(name, sign) -> None:
    with torch.device("meta"):
        ours = build(Builder(name), sign(224, 3, 10))
        theirs = build(Builder(f"torchvision:{name}"), sign(224, 3, 10))
    shapes = {key: value.shape for key, value in ours.state_dict().items()}
    assert shapes == {key: value.shape for key, value in theirs.state_dict().items()}
    assert count_macs_meta(ours) == count_macs_meta(theirs)


def count_macs_meta(module: torch.nn.Module) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"])
def test_small_inputs_keep_their_resolution(name, sign) -> None:
    module = build(Builder(name), sign(32)).eval()
    features = module.features(torch.zeros(1, 3, 32, 32))
    assert features.shape[2:] == (4, 4)


def test_macs_and_params(sign) -> None:
    model = new_model("cifar_resnet20", sign(32, 3, 10), {}, 0)
    model.module.train()
    # Counted by hand: stem, 6 + 1 + 5 + 1 + 5 convolutions, linear layer.
    by_hand = 32 * 32 * 27 * 16 + 32 * 32 * 9 * 16 * 16 * 6
    by_hand += 16 * 16 * 9 * (16 * 32 + 5 * 32 * 32) + 8 * 8 * 9 * (32 * 64 + 5 * 64 * 64) + 640
    assert count_macs(model.module, model.signature) == by_hand
    assert model.module.training, "counting leaves the mode as it was"


def test_unet_takes_odd_sizes_and_refuses_tiny_ones(sign) -> None:
    from edgepress.core.errors import ConfigError

    module = build(Builder("unet", {"width": 2}), sign(16, task="segmentation")).eval()
    assert module(torch.zeros(1, 3, 19, 33)).shape == (1, 5, 19, 33)
    with pytest.raises(ConfigError, match="needs 64 pixels a side, got 32x32"):
        build(Builder("unet", {"depth": 6}), sign(32))
