"""The stage `search` in a recipe: scored by training or a proxy, within the budget, resumable, then trained in full."""

from pathlib import Path
from typing import Any

import pytest

from edgepress.core.errors import ConfigError
from edgepress.measure.base import Quiet
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import run

FIT = {"batch": 16, "lr": 0.05, "augment": {"pad": 1}, "precision": "fp32"}
SEARCH = {
    "name": "student",
    "models": ["cifar_resnet8", "resnet8x4"],
    "space": {"width": [2, 4, 8]},
    "budget": {"params": 9000},
    "trials": 6,
    "epochs": 1,
    **FIT,
}


def recipe(**more: Any) -> dict[str, Any]:
    return {
        "name": "search",
        "data": {"synthetic": {"size": 16, "train": 96, "val": 40, "test": 40}},
        "stages": [{"search": {**SEARCH, **more}}, {"train": {"name": "trained", "epochs": 1, **FIT}}],
        "measure": ["quality", "size"],
    }


def test_the_best_within_the_budget_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgepress.chain.search as chain

    real, calls = chain._trained, list[str]()

    def stopped(stage: Any, model: Any, ctx: Any) -> float:
        calls.append(model.builder.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(stage, model, ctx)

    wanted = parse_recipe(recipe())
    monkeypatch.setattr(chain, "_trained", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(wanted, tmp_path, Quiet())
    result = run(wanted, tmp_path, Quiet())
    notes = result.shelves["student"].notes()
    fits = [trial for trial in notes["trials"] if trial["costs"]["params"] <= 9000]
    assert len(notes["trials"]) == 6 > len(fits) and all(trial["score"] is not None for trial in fits)
    assert len(calls) == len(fits) + 1, "what was scored before the stop is not scored again"
    assert notes["chosen"]["score"] == max(trial["score"] for trial in fits)
    assert notes["front"][-1] == notes["chosen"]
    rows = {(row.artifact, row.metric): row.value for row in result.rows}
    assert rows["trained", "params"] == rows["student", "params"] == notes["chosen"]["costs"]["params"]


@pytest.mark.parametrize("score", ["synflow", "naswot"])
def test_a_proxy_trains_nothing(score: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import edgepress.chain.search as chain

    monkeypatch.delattr(chain, "run_fit")
    value = recipe(score=score, images=8)
    result = run(parse_recipe({**value, "stages": value["stages"][:1], "measure": ["size"]}), tmp_path, Quiet())
    notes = result.shelves["student"].notes()
    assert notes["chosen"]["costs"]["params"] <= 9000
    assert notes["chosen"]["candidate"]["arguments"]["width"] > 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"models": []}, "at least one network"),
        ({"space": {"width": []}}, "'width' has no values"),
        ({"budget": {"parms": 5}}, "did you mean 'params'"),
        ({"budget": {}}, "give at least one limit"),
        ({"budget": {"speedup": 2.0}}, "give latency_ms in place of speedup"),
        ({"trials": 0}, "at least 1"),
        ({"model": "cifar_resnet8"}, "are in 'models'"),
        ({"score": "guess"}, "synflow"),
    ],
)
def test_wrong_fields_are_told_before_anything_runs(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(recipe(**fields))
    assert words in str(caught.value)
