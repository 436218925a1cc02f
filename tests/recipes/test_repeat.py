"""Stages repeated on a schedule: written out with their names and shares, cached step by step, changed by --set."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgepress.core.errors import ConfigError
from edgepress.measure.base import Quiet
from edgepress.recipes.recipe import dump_recipe, parse_recipe, read_recipe
from edgepress.recipes.runner import run

FIT = {"epochs": 1, "batch": 16, "lr": 0.05, "augment": {"pad": 1}, "precision": "fp32"}
DATA = {"synthetic": {"size": 16, "train": 64, "val": 16, "test": 16}}


def recipe(times: Any, *inner: Any, **more: Any) -> dict[str, Any]:
    stages = [
        {"train": {"name": "whole", "model": "cifar_resnet8", "arguments": {"width": 8}, **FIT}},
        {"repeat": {"times": times, "stages": list(inner), **more}},
    ]
    return {"name": "r", "data": DATA, "stages": stages, "measure": ["size"]}


PRUNE = {"prune": {"name": "thin", "budget": {"params": 8000}, "score": "l1", "minimum": 2, "repair": 16}}
TRAIN = {"train": {"name": "trained", **FIT}}


def test_it_is_written_out_on_a_schedule() -> None:
    found = parse_recipe(recipe(3, PRUNE, TRAIN, {"sparsify": {"sparsity": 0.6}}))
    assert [step.label for step in found.steps] == [
        "whole", "thin-1", "trained-1", "sparsify-1", "thin-2", "trained-2", "sparsify-2", "thin", "trained", "sparsify"
    ]  # fmt: skip
    assert [step.input for step in found.steps[1:4]] == ["whole", "thin-1", "trained-1"]
    assert found.step("thin-2").input == "sparsify-1"
    assert [found.step(n).stage.fraction for n in ("thin-1", "thin-2", "thin")] == pytest.approx([1 / 3, 1 / 2, 1])
    sparse = [found.step(n).stage for n in ("sparsify-1", "sparsify-2", "sparsify")]
    assert [(s.step, s.steps) for s in sparse] == [(1, 3), (2, 3), (3, 3)]
    assert sparse[0].config.share < sparse[1].config.share < sparse[2].config.share == pytest.approx(0.6)
    assert parse_recipe(dump_recipe(found)) == found


def test_what_is_given_is_left_alone_and_factorize_takes_part() -> None:
    factors = {"factorize": {"name": "f", "budget": {"macs": 9000}}}
    by_energy = {"factorize": {"name": "e", "energy": 0.9}}
    fixed = {"prune": {"name": "p", "budget": {"macs": 9000}, "fraction": 0.3, "input": "whole"}}
    found = parse_recipe(recipe(2, fixed, factors, by_energy, "sparsify"))
    assert [found.step(n).stage.fraction for n in ("p-1", "p", "f-1", "f", "e-1")] == [0.3, 0.3, 0.5, 1.0, 1.0]
    assert (found.step("p-1").input, found.step("p").input) == ("whole", "sparsify-1")


def test_of_a_speedup_each_round_gets_what_is_left() -> None:
    thin = {"prune": {"name": "thin", "budget": {"speedup": 4.0, "macs": 9000}}}
    found = parse_recipe(recipe(3, thin))
    taken, left = [1.0], []
    for name in ("thin-1", "thin-2", "thin"):
        stage = found.step(name).stage
        left.append(stage.budget["speedup"])
        full = taken[-1]
        taken.append(full + (full / left[-1] - full) * stage.fraction)
    assert taken == pytest.approx([1, 3 / 4, 2 / 4, 1 / 4])  # equal parts of the milliseconds
    assert left[0] == 4.0 and found.step("thin").stage.budget["macs"] == 9000
    given = {"prune": {"name": "p", "budget": {"speedup": 4.0}, "fraction": 1.0}}
    assert [parse_recipe(recipe(2, given)).step(n).stage.budget["speedup"] for n in ("p-1", "p")] == [4.0, 4.0]


def test_every_step_is_kept_and_the_sizes_fall_evenly(tmp_path: Path) -> None:
    factors = {"factorize": {"name": "factors", "budget": {"params": 7000}, "images": 16, "repair": 0}}
    wanted = parse_recipe(recipe(2, PRUNE, TRAIN, factors))
    result = run(wanted, tmp_path, Quiet())
    sizes = {row.artifact: row.value for row in result.rows if row.metric == "params"}
    middle = (sizes["whole"] + 8000) / 2
    assert 0.9 * middle < sizes["thin-1"] <= middle and sizes["thin"] <= 8000 and sizes["factors"] <= 7000
    assert sizes["trained-1"] == sizes["thin-1"] > sizes["factors-1"]
    done = {label: (shelf.folder / "done").stat().st_mtime_ns for label, shelf in result.shelves.items()}
    longer = parse_recipe(recipe(2, PRUNE, TRAIN, factors | {"factorize": factors["factorize"] | {"energy": 0.5}}))
    again = run(longer, tmp_path, Quiet())
    for label in ("whole", "thin-1", "trained-1"):
        assert (again.shelves[label].folder / "done").stat().st_mtime_ns == done[label], "kept"


def test_a_field_of_a_repeated_stage_is_set_from_outside(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(recipe(2, PRUNE, TRAIN)))
    found = read_recipe(path, ["thin.minimum=3", "repeat.times=3", "trained.epochs=7"])
    assert [step.stage.minimum for step in found.steps if step.kind == "prune"] == [3, 3, 3]
    assert found.step("trained-2").stage.epochs == 7
    with pytest.raises(ConfigError, match="did you mean 'thin'"):
        read_recipe(path, ["thinn.minimum=3"])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (recipe(0, PRUNE), "'times' must be a whole number from 1 to 100, got 0"),
        (recipe(True, PRUNE), "'times' must be"),
        (recipe(2), "'stages' must be a list"),
        (recipe(2, PRUNE, time=3), "unknown key 'time'; did you mean 'times'?"),
        (recipe(2, {"repeat": {"times": 2, "stages": [PRUNE]}}), "repetition within a repetition"),
        (recipe(2, 7), "expected 'kind: {fields}', got 7"),
        (recipe(2, {"prun": {}}), "unknown stage 'prun'; did you mean 'prune'?"),
        (recipe(2, {"prune": 3}), "expected 'kind: {fields}'"),
    ],
)
def test_wrong_repetitions_are_named(value: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(value, "r.yaml")
    assert words in str(caught.value)
