"""Training towards structure, and training around zeros: as recipes, end to end."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgepress.core.artifact import Model
from edgepress.core.errors import ConfigError, TrainingError
from edgepress.measure.base import Quiet
from edgepress.prune.graph import find_sites
from edgepress.prune.lasso import group_lasso
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import Result, run
from edgepress.train.objectives.base import objectives
from prune.helpers import small

FIT = {"epochs": 1, "batch": 16, "lr": 0.05, "precision": "fp32"}
WHOLE = {"name": "whole", "model": "cifar_resnet8", "arguments": {"width": 4}, **FIT}


def ran(folder: Path, *stages: dict[str, Any]) -> Result:
    data = {"synthetic": {"size": 16, "train": 160, "val": 32, "test": 32}}
    return run(
        parse_recipe({"name": "sparse", "data": data, "stages": list(stages), "measure": ["size"]}), folder, Quiet()
    )


def network(result: Result, label: str) -> Model:
    model = result.shelves[label].load()
    assert isinstance(model, Model)
    return model


def zeros(model: Model) -> float:
    weights = [part.weight for part in model.module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return float(torch.cat([w.flatten() == 0 for w in weights]).float().mean())


def test_a_gradual_schedule_with_training_ends_sparse(tmp_path: Path) -> None:
    thin = {"sparsify": {"name": "thin", "sparsity": 0.6}}
    learn = {"train": {"name": "learn", "keep_zeros": True, "ema": 0.9, **FIT}}
    result = ran(tmp_path, {"train": WHOLE}, {"repeat": {"times": 2, "stages": [thin, learn]}})
    before, after = network(result, "thin-1"), network(result, "learn-1")
    assert zeros(after) == zeros(before) > 0.2, "what was thinned out stays so"
    assert any((a != b).any() for a, b in zip(before.module.parameters(), after.module.parameters(), strict=True))
    assert zeros(network(result, "learn")) == pytest.approx(0.6, abs=0.01)
    free = ran(tmp_path, {"train": WHOLE}, thin, {"train": {"name": "free", **FIT}})
    assert zeros(network(free, "free")) < 0.05, "a training fills zeros again, unless it is told not to"


def test_zeros_that_are_not_there_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no weight is 0: put a `sparsify` stage before"):
        ran(tmp_path, {"train": WHOLE}, {"train": {"name": "learn", "keep_zeros": True, **FIT}})
    with pytest.raises(ConfigError, match="'keep_zeros' belongs to a network"):
        ran(tmp_path, {"train": {**WHOLE, "keep_zeros": True}})


def test_group_lasso_presses_on_whole_units(tmp_path: Path) -> None:
    found = {}
    for name, losses in (("free", []), ("pressed", [{"group_lasso": {"weight": 0.1}}])):
        model = network(ran(tmp_path, {"train": {**WHOLE, "name": name, "losses": losses}}), name)
        found[name] = group_lasso(model.module, find_sites(model.module, model.signature).sites).item()
    assert found["pressed"] < 0.7 * found["free"]


def test_of_several_processes_each_gives_its_share_of_the_pressure() -> None:
    model = small("branches")
    alone, shared = (objectives.get("group_lasso")().bound(model.module, model.signature, n) for n in (1, 4))
    outputs: Any = torch.zeros(1)
    values = [term(outputs, None, None) for term in (alone, shared)]  # type: ignore[arg-type]
    torch.testing.assert_close(values[0], values[1])
    weight = model.module.inner[0].weight
    whole, share = (torch.autograd.grad(value, weight)[0] for value in values)
    torch.testing.assert_close(whole, 4 * share)
