"""Structure in any order, as a recipe: train, prune, factorize, distil from the whole network, quantize, export."""

from pathlib import Path
from typing import Any

import pytest

from edgepress.measure.base import Quiet
from edgepress.models.base import twins
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import Result, run

FIT = {"batch": 16, "lr": 0.05, "augment": {"pad": 1}, "precision": "fp32"}
LOOK = {"images": 32, "repair": 64}
FAMILIES = ("cifar_resnet8", "vgg11", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet_bc100",
            "wrn_16_2", "resnet18")  # fmt: skip
CASES = [name if name == "cifar_resnet8" else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


def chain(name: str, stages: list[dict[str, Any]], folder: Path, epochs: int, **arguments: Any) -> Result:
    twin = twins.get(name)
    network = {"name": "whole", "model": name, "arguments": {**twin.arguments, **arguments}}
    recipe = {
        "name": "any-order",
        "data": {"synthetic": {"size": twin.size, "train": 240, "val": 60, "test": 60}},
        "stages": [{"train": {**network, "epochs": epochs, **FIT}}, *stages],
        "measure": ["quality", "agreement", "size"],
    }
    return run(parse_recipe(recipe), folder, Quiet())


def values(result: Result) -> dict[tuple[str, str], float]:
    return {(row.artifact, row.metric): row.value for row in result.rows}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_prune_factorize_distil_quantize_export(name: str, tmp_path: Path) -> None:
    full = {"cifar_resnet8": {"width": 8}}.get(name, {})
    epochs = 3 if full else 1
    whole = values(chain(name, [], tmp_path, epochs, **full))["whole", "params"]
    stages = [
        {
            "prune": {
                "name": "pruned",
                "budget": {"params": int(whole * 0.75)},
                "minimum": 2,
                "images": 32,
                "repair": 64,
            }
        },
        {"factorize": {"name": "factors", "budget": {"params": int(whole * 0.6)}, "images": 32, "repair": 64}},
        {"distill": {"name": "student", "teacher": "$whole", "views": 1, "epochs": epochs, **FIT}},
        {"quantize": {"name": "integer", "calibrate": 32}},
        {"export": {"name": "file", "to": "onnx"}},
    ]
    result = chain(name, stages, tmp_path, epochs, **full)
    found = values(result)
    assert found["pruned", "params"] <= 0.75 * whole and found["student", "params"] <= 0.6 * whole
    assert result.shelves["factors"].notes()["changes"]
    assert found["file", "agreement_parent"] >= 98
    if full:
        assert found["file", "top1"] > 50  # a guess among four classes: 25


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_factorize_sparsify_prune_qat_export(tmp_path: Path) -> None:
    stages = [
        {"factorize": {"name": "factors", "rank": "share", "share": 0.4, **LOOK}},
        {"sparsify": {"name": "thin", "sparsity": 0.2}},
        {"prune": {"name": "pruned", "budget": {"params": 4000}, "minimum": 2, **LOOK}},
        {"qat": {"name": "trained", "weights": 4, "calibrate": 32, "epochs": 2, "views": 1, **FIT}},
        {"export": {"name": "file", "to": "onnx"}},
    ]
    found = values(chain("cifar_resnet8", stages, tmp_path, 3, width=8))
    assert found["pruned", "params"] <= 4000
    assert found["file", "agreement_parent"] >= 98 and found["file", "top1"] > 50
