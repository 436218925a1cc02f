"""The stage `qat` in a recipe: it learns what rounding alone loses, and the exported file computes the same."""

import json
from typing import Any

import pytest

from edgepress.core.errors import ConfigError
from edgepress.measure.base import Quiet
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import Result, run

NETWORK = {"model": "cifar_resnet8", "arguments": {"width": 8}}
COMMON = {"batch": 16, "precision": "fp32", "augment": {"pad": 1}}


def recipe(**qat: Any) -> dict[str, Any]:
    return {
        "name": "qat",
        "data": {"synthetic": {"size": 16, "train": 320, "val": 80, "test": 200}},
        "stages": [
            {"train": {"name": "net", "epochs": 4, "lr": 0.05, **NETWORK, **COMMON}},
            {"qat": {"name": "trained", "epochs": 3, "lr": 0.02, "calibrate": 64, "views": 2, **COMMON, **qat}},
            {"export": {"name": "file", "to": "onnx"}},
        ],
        "measure": ["quality", "agreement", "size"],
    }


def value(result: Result, artifact: str, metric: str) -> float:
    [found] = [row.value for row in result.rows if (row.artifact, row.metric) == (artifact, metric)]
    return found


@pytest.mark.parametrize("bits", [(2, 2), (4, 4), (8, 8)], ids=str)
def test_it_learns_and_the_file_agrees(bits: tuple[int, int], tmp_path) -> None:
    result = run(parse_recipe(recipe(weights=bits[0], activations=bits[1])), tmp_path, Quiet())
    assert value(result, "trained", "top1") >= value(result, "net", "top1") - 5
    assert value(result, "file", "agreement_parent") >= 99.5


@pytest.mark.parametrize("name", ["$net", "net"])
def test_a_teacher_is_named_with_or_without_its_mark(name: str, tmp_path) -> None:
    short = {**recipe(teacher=name, epochs=1), "measure": []}
    short["stages"][0]["train"]["epochs"] = 1
    folder = run(parse_recipe(short), tmp_path, Quiet()).shelves["trained"].folder
    assert "distillation" in json.loads((folder / "notes.json").read_text())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weights": 5}, "8, 4, 3 or 2 bits"),
        ({"temperature": 0}, "above 0"),
        ({"alpha": 1.5}, r"\[0, 1\]"),
        ({"model": "cifar_resnet8"}, "goes on from a trained network"),
        ({"teacher": "$nobody"}, "no earlier stage"),
        ({"calibrate": 0}, "at least 1"),
        ({"rounded": 0}, "share in"),
    ],
)
def test_wrong_fields_are_told_before_anything_runs(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_recipe(recipe(**fields))
