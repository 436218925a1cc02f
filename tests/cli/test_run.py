"""`run`: what it prints and leaves, what it refuses, and that Ctrl-C loses nothing."""

import functools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from cli.helpers import Call, Small, command
from edgepress.cli.run import _command
from edgepress.cli.shipped import shipped_recipes
from edgepress.recipes.recipe import read_recipe


def test_run_leaves_bundle_report_and_rows(small: Small) -> None:
    assert Path(small.printed["report"]).read_text().startswith("<!doctype html>")
    assert list(small.printed["stages"]) == ["teacher", "student", "file"]
    assert small.bundle.joinpath("manifest.json").exists()
    assert {row["artifact"] for row in small.printed["rows"] if row["metric"] == "top1"} == set(small.printed["stages"])


def test_a_second_run_takes_what_is_there(small: Small, call: Call) -> None:
    result = call("run", small.recipe, "--runs", small.runs)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("kept from an earlier run") == 3
    assert "top-1 %" in result.stdout and "report  " in result.stdout
    assert max(len(line) for line in result.stdout.splitlines() if "runs" not in line) <= 80


def test_until_and_set(small: Small, call: Call, tmp_path: Path) -> None:
    words = ("--until", "teacher", "--set", "teacher.batch=48", "--set", "data.synthetic.train=90", "--json")
    result = call("run", small.recipe, "--runs", tmp_path, *words)
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["stages"]) == ["teacher"]
    recorded = json.loads((tmp_path / "recipe-small" / "run.json").read_text())
    assert recorded["recipe"]["stages"][0]["train"]["batch"] == 48


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["smal"], "neither a file nor a shipped recipe"),
        (["dem"], "did you mean 'demo'?"),
        (["demo", "--set", "studet.epochs=1"], "did you mean 'student'?"),
        (["demo", "--set", "student.epoch=1"], "did you mean 'epochs'?"),
        (["demo", "--set", "student.epochs=many"], "student"),
        (["demo", "--set", "student"], "name.field=value"),
        (["demo", "--until", "studen"], "did you mean 'student'?"),
        (["demo", "--only", "studen"], "did you mean 'student'?"),
        (["demo", "--fresh", "techer"], "did you mean 'teacher'?"),
    ],
)
def test_a_wrong_word_is_told_before_anything_is_computed(
    call: Call, tmp_path: Path, words: list[str], told: str
) -> None:
    result = call("run", *words, "--runs", tmp_path / "runs")
    assert result.exit_code == 2 and told in result.stderr and result.stdout == ""
    assert not list(tmp_path.rglob("done"))


def test_the_command_that_goes_on_does_not_begin_again() -> None:
    assert _command("demo", (), None, (), None, None, False, Path("runs")) == "edgepress run demo"
    told = _command("my recipe.yaml", ("seed=1",), "student", ("a", "b"), 2, "jsonl", True, Path("my runs"))
    words = "--set seed=1 --until student --only a --only b --processes 2 --track jsonl --smoke --runs 'my runs'"
    assert told == f"edgepress run 'my recipe.yaml' {words}"


def test_ctrl_c_says_how_to_go_on_and_gc_keeps_what_was_begun(small: Small, call: Call, tmp_path: Path) -> None:
    words = ("run", small.recipe, "--until", "teacher", "--set", "teacher.epochs=4000", "--runs", tmp_path)
    # A test run in the background ignores SIGINT, and its children would inherit that.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command(*words), stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    assert process.stderr
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("train-*/state.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped; nothing is lost. Go on with: edgepress run " in told and "Traceback" not in told
    # What was begun is kept by `gc`, since a run would go on from it.
    assert list(tmp_path.glob("train-*/state.pt"))
    listed = json.loads(call("gc", "--yes", "--runs", tmp_path, "--json").stdout)
    assert listed["removed"] == [] and "unfinished" in listed["unused"][0]["kept"]
    assert len(json.loads(call("gc", "--yes", "--unfinished", "--runs", tmp_path, "--json").stdout)["removed"]) == 1


def test_shipped_recipes_are_right_and_named_after_their_file() -> None:
    found = shipped_recipes()
    assert {"demo", "cifar10-resnet8", "cifar10-resnet20", "shapes-unet"} <= set(found)
    for name, path in found.items():
        assert read_recipe(path).name == name


def test_recipes_are_listed_shown_and_copied(call: Call, tmp_path: Path) -> None:
    names = json.loads(call("recipes", "ls", "--json").stdout)
    assert names["demo"] and all(text and len(text) < 90 for text in names.values())
    assert "demo" in call("recipes", "ls").stdout
    text = shipped_recipes()["demo"].read_text()
    assert call("recipes", "show", "demo").stdout == text
    resolved = json.loads(call("recipes", "show", "demo", "--json").stdout)
    assert resolved["stages"][2]["distill"]["method"] == "auto"
    target = tmp_path / "mine.yaml"
    assert call("recipes", "copy", "demo", target).exit_code == 0
    assert yaml.safe_load(target.read_text())["name"] == "demo"
    again = call("recipes", "copy", "demo", target)
    assert again.exit_code == 2 and "--force" in again.stderr
    assert call("recipes", "copy", "demo", tmp_path, "--force").stdout.strip() == str(tmp_path / "demo.yaml")
    assert call("recipes", "copy", "demmo").exit_code == 2
