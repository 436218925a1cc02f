"""From the rows of single runs to the rows the tables ask for."""

from dataclasses import asdict
from pathlib import Path

import pytest
from benchmarks.accuracy import Job, best_seed, fp32_rows, int8_rows, value
from benchmarks.base import RECIPES, Options

from benchmarks import accuracy, base
from edgepress.core.errors import DataError, EdgepressError
from edgepress.measure.rows import Row
from edgepress.recipes.recipe import read_recipe

OPTIONS = Options("foundation", "resnet8")


def rows_of(fp32: float, int8: float, val: float, n: int = 10_000) -> list[Row]:
    """Return what one run of `r-kd` measures."""
    found: list[Row] = []
    for label, top1, size, precision in (("r-kd-fp32", fp32, 316_000, "fp32"), ("r-kd-int8", int8, 90_000, "w8a8")):
        about = {"runtime": "onnxruntime", "precision": precision, "date": "2026-02-03T10:00:00Z"}
        found.append(Row(label, "top1", top1, "%", "higher", n=n, split="test", **about))
        found.append(Row(label, "val_top1", val, "%", "higher", n=5000, split="val", **about))
        found.append(Row(label, "bytes", size, "bytes", "lower", **about))
    return found


RUNS = {0: rows_of(88.0, 87.9, 90.0), 1: rows_of(88.6, 88.5, 89.5), 2: rows_of(88.3, 88.4, 90.0)}


def test_fp32_is_a_mean_over_seeds_beside_each_seed() -> None:
    rows = fp32_rows("r-kd", RUNS, OPTIONS)
    by_name = {(row.artifact, row.metric): row for row in rows}
    mean = by_name["r-kd-fp32", "top1"]
    assert mean.value == pytest.approx(88.3)
    assert (mean.seeds, mean.n, mean.split, mean.precision) == ("0,1,2", 10_000, "test", "fp32")
    assert by_name["r-kd-fp32", "top1_std"].value == pytest.approx(0.3)
    assert by_name["r-kd-fp32-seed1", "top1"].value == 88.6
    assert by_name["r-kd-fp32-seed1", "top1"].seeds == "1"
    assert by_name["r-kd-fp32", "bytes"].value == 316_000
    assert len(by_name) == len(rows)


def test_one_seed_has_no_spread() -> None:
    assert "top1_std" not in {row.metric for row in fp32_rows("r-kd", {0: RUNS[0]}, OPTIONS)}


def test_the_file_is_chosen_by_validation_accuracy_and_judged_against_its_own_fp32() -> None:
    seed = best_seed("r-kd-int8", RUNS)
    assert seed == 0  # the best on validation images, and the worst on test images
    by_metric = {row.metric: row for row in int8_rows("r-kd", seed, RUNS[seed], OPTIONS)}
    assert by_metric["top1"].value == 87.9
    assert by_metric["drop"].value == pytest.approx(0.1)
    assert by_metric["drop"].unit == "points"
    assert by_metric["bytes"].value == 90_000
    assert {row.artifact for row in by_metric.values()} == {"r-kd-int8"}
    assert {row.seeds for row in by_metric.values()} == {"0"}


def test_what_was_not_measured_is_named() -> None:
    with pytest.raises(EdgepressError, match="'latency'"):
        value(RUNS[0], "r-kd-fp32", "latency")


def test_the_teacher_must_be_where_the_data_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPRESS_DATA", str(tmp_path))
    with pytest.raises(DataError, match="EDGEPRESS_DATA"):
        accuracy.public_weights(accuracy.TEACHER)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files in the checkpoints' places, so that recipes can be checked without the data."""
    folder = tmp_path / accuracy.WEIGHTS
    folder.mkdir(parents=True)
    for name in (accuracy.TEACHER, "resnet20-12fca82f.th"):
        (folder / name).write_bytes(b"")
    monkeypatch.setenv("EDGEPRESS_DATA", str(tmp_path))


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("name", ["resnet8-kd", "resnet8-alone", "resnet20-kd"])
def test_recipes_give_the_artifacts_that_the_rows_need(name: str) -> None:
    recipe = read_recipe(Job(name, 2).path, Job(name, 2).sets())
    assert (recipe.name, recipe.seed) == (f"{name}-seed2", 2)
    labels = {step.label: step for step in recipe.steps}
    wanted = [f"{name}-fp32", *([f"{name}-int8"] if name.endswith("-kd") else [])]
    assert all(labels[label].kind == "export" for label in wanted)
    assert [m.split for m in recipe.measures if type(m).__name__ == "Quality"] == ["test", "val"]
    if "teacher" in labels:
        assert labels["teacher"].seed == 0, "seeds share the teacher and its outputs"


@pytest.mark.usefixtures("weights")
def test_a_job_runs_the_recipe_as_it_was_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "WORK", tmp_path / "work")
    job = Job("resnet8-kd", 1)
    job.freeze(OPTIONS)
    assert read_recipe(job.frozen(OPTIONS)) == read_recipe(job.path, job.sets())


@pytest.mark.usefixtures("weights")
def test_student_and_baseline_train_alike() -> None:
    """A gain of distillation counts only against the same network, epochs, optimizer and augmentation."""
    alone, taught = (read_recipe(Job(n, 0).path, Job(n, 0).sets()) for n in ("resnet8-alone", "resnet8-kd"))
    ours, theirs = (asdict(recipe.step("student").stage) for recipe in (alone, taught))
    assert {name for name in ours if ours[name] != theirs[name]} <= {"views"}
    assert alone.source == taught.source


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.usefixtures("weights")
def test_every_recipe_is_read(path: Path) -> None:
    _, *sets = Job(path.stem, 0).sets()  # all but the name
    assert read_recipe(path, sets).name == path.stem
