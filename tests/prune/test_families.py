"""Every family of the matrix: pruned, saved, loaded bit for bit, exported with parity; what stays says why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.cost.budget import Budget
from edgepress.export.onnx import export_onnx
from edgepress.models.base import models, twins
from edgepress.models.build import new_model
from edgepress.models.count import count_params
from edgepress.models.predictor import TorchPredictor
from edgepress.models.structure import load_model, save_model
from edgepress.prune.config import PruneConfig
from edgepress.prune.graph import find_sites
from edgepress.prune.prune import prune
from prune.helpers import enliven, images, signature

NASNET_MOBILE = {"stem_size": 32, "channel_multiplier": 2, "num_features": 1056}
VIT = {"img_size": 32, "patch_size": 8, "depth": 3}
FAMILIES: list[tuple[str, int, dict[str, Any]]] = [
    ("torchvision:alexnet", 64, {}),
    ("torchvision:vgg11", 32, {}),
    ("torchvision:vgg16", 32, {}),
    ("torchvision:mobilenet_v2", 64, {}),
    ("torchvision:efficientnet_b0", 64, {}),
    ("torchvision:resnet18", 64, {}),
    ("torchvision:densenet121", 64, {}),
    ("timm:convnext_atto", 64, {}),
    ("timm:regnetx_002", 64, {}),
    ("timm:regnety_002", 64, {}),
    ("timm:ghostnet_100", 64, {}),
    ("timm:nasnetalarge", 64, NASNET_MOBILE),
    ("timm:vit_tiny_patch16_224", 32, VIT),
]
OWN = [(name, twins.get(name).size, dict(twins.get(name).arguments)) for name in models]
FAST = {"torchvision:resnet18", "timm:vit_tiny_patch16_224", "mobilenet_v3_small"}
CASES = [pytest.param(*c, marks=() if c[0] in FAST else pytest.mark.slow, id=c[0]) for c in [*FAMILIES, *OWN]]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "size", "arguments"), CASES)
def test_a_family_loses_parameters_and_survives_the_disk_and_the_door(
    name: str, size: int, arguments: dict[str, Any], tmp_path: Path
) -> None:
    sign = signature(size)
    if name in twins and twins.get(name).task == "segmentation":
        sign = type(sign)("segmentation", sign.input, sign.labels)
    model = new_model(name, sign, arguments, seed=0)
    enliven(model.module)
    pixels, _ = images(model, 8)
    found = find_sites(model.module, sign)
    whole = count_params(model.module)
    pruned, report = prune(model, Budget(params=int(whole * 0.75)), PruneConfig(score="l2", minimum=2))
    assert count_params(pruned.module) <= 0.75 * whole
    assert report.fixed == found.fixed and all(reason for reason in report.fixed.values())
    save_model(pruned, tmp_path)
    again = load_model(tmp_path)
    np.testing.assert_array_equal(TorchPredictor(again)(pixels), TorchPredictor(pruned)(pixels))
    export_onnx(again, pixels)
