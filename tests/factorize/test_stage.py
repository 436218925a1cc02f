"""The stage in a recipe: train, factorize, distil from the whole network."""

from pathlib import Path
from typing import Any

import pytest

from edgepress.core.errors import ConfigError
from edgepress.measure.base import Quiet
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import run

FIT = {"epochs": 3, "batch": 16, "lr": 0.05, "augment": {"pad": 1}, "precision": "fp32"}


def recipe(stages: list[dict[str, Any]]) -> dict[str, Any]:
    first = {"train": {"name": "whole", "model": "cifar_resnet8", "arguments": {"width": 8}, **FIT}}
    data = {"synthetic": {"size": 16, "train": 240, "val": 60, "test": 60}}
    return {"name": "factorize", "data": data, "stages": [first, *stages], "measure": ["quality", "size"]}


def test_factorize_and_distil(tmp_path: Path) -> None:
    stages = [
        {"factorize": {"name": "factors", "budget": {"params": 10000}, "images": 64, "repair": 64}},
        {"distill": {"name": "recovered", "teacher": "$whole", "views": 1, **FIT}},
    ]
    result = run(parse_recipe(recipe(stages)), tmp_path, Quiet())
    rows = {(row.artifact, row.metric): row.value for row in result.rows}
    assert rows["recovered", "top1"] > 50  # a guess among four classes: 25
    assert rows["factors", "params"] <= 10000 < rows["whole", "params"]
    notes = result.shelves["factors"].notes()
    assert notes["changes"] and notes["whole"] and notes["after"]["params"] == rows["factors", "params"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": {"mac": 5}}, "did you mean 'macs'"),
        ({"budget": {"macs": 5, "params": 5}}, "give one limit"),
        ({"conv": "tuckre"}, "tucker"),
        ({"rank": "budget"}, "needs a budget"),
        ({"images": -1}, "0 or more"),
        ({"ranks": {"linear": -2}}, "at least 1"),
    ],
)
def test_wrong_fields_are_told_before_anything_runs(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(recipe([{"factorize": fields}]))
    assert words in str(caught.value)
