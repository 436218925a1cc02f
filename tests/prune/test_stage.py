"""The stages in a recipe: train, prune, distil from the whole network, thin out."""

from pathlib import Path

import pytest

from edgepress.core.errors import ConfigError
from edgepress.measure.base import Quiet
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import run

FIT = {"epochs": 3, "batch": 16, "lr": 0.05, "augment": {"pad": 1}, "precision": "fp32"}


def recipe(stages: list[dict]) -> dict:
    first = {"train": {"name": "whole", "model": "cifar_resnet8", "arguments": {"width": 8}, **FIT}}
    data = {"synthetic": {"size": 16, "train": 240, "val": 60, "test": 60}}
    return {"name": "prune", "data": data, "stages": [first, *stages], "measure": ["quality", "size"]}


def test_prune_distil_sparsify(tmp_path: Path) -> None:
    stages = [
        {"prune": {"name": "pruned", "budget": {"params": 3500}, "minimum": 2, "images": 64, "repair": 64}},
        {"distill": {"name": "recovered", "teacher": "$whole", "views": 1, **FIT}},
        {"sparsify": {"name": "thin", "sparsity": 0.2}},
    ]
    result = run(parse_recipe(recipe(stages)), tmp_path, Quiet())
    rows = {(row.artifact, row.metric): row.value for row in result.rows}
    assert rows["thin", "top1"] > 50  # a guess among four classes: 25
    assert rows["pruned", "params"] <= 3500 < rows["whole", "params"]


def test_a_budget_is_checked_before_anything_is_computed() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(recipe([{"prune": {"budget": {"latency": 2.0, "threads": 0}, "fraction": 0}}]))
    words = "\n".join(caught.value.problems)
    assert "did you mean 'latency_ms'" in words and "fraction must be in (0, 1]" in words
