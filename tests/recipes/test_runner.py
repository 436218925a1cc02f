"""Running recipes: what is done is kept, what is half done goes on, what failed leaves nothing."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepress.core.artifact import Model
from edgepress.core.errors import BundleError, BusyError, ConfigError, TrainingError, UnknownNameError
from edgepress.core.files import sha256
from edgepress.measure.rows import Row
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import smoke
from edgepress.recipes.store import Shelf, recorded_runs, unused

from .conftest import TINY, Run, chain, mapping

pytest.importorskip("torch")


class Killed(BaseException):
    """Ends a run as abruptly as a test can: nothing but `finally` blocks see it."""


@pytest.fixture
def killed_at_save(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the checkpoint die after the given number of saves."""
    from edgepress.train import training
    from edgepress.train.state import FileCheckpoint

    save = FileCheckpoint.save

    def arm(saves: int) -> None:
        left = [saves]

        def dying(self: FileCheckpoint, state: dict[str, Any]) -> None:
            save(self, state)
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        monkeypatch.setattr(FileCheckpoint, "save", dying)
        monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)  # after every step, not only between epochs

    return arm


def facts(rows: list[Row]) -> list[tuple[str, str, float]]:
    return [(row.artifact, row.metric, row.value) for row in rows]


def weights(shelf: Shelf) -> str:
    return sha256(shelf.folder / "weights.safetensors")


def test_a_run_leaves_artifacts_rows_and_a_record(run_recipe: Run) -> None:
    result, notes = run_recipe(chain(), command="edgepress run x")
    assert notes.done() == ["teacher", "student"]
    student = result.shelves["student"]
    assert student.done and student.load().key == student.key
    names = {path.name for path in student.folder.iterdir()}
    assert {"stage.json", "structure.json", "weights.safetensors", "log.jsonl", "done", "rows"} <= names
    assert "state.pt" not in names
    record = json.loads((result.folder / "run.json").read_text())
    assert [stage["label"] for stage in record["stages"]] == ["teacher", "student"]
    assert (record["command"], record["name"]) == ("edgepress run x", "test")
    assert {row.artifact for row in result.rows} == {"teacher", "student"}
    events = [json.loads(line) for line in (student.folder / "log.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2]
    assert events[-1]["event"] == "distillation"


def test_a_second_run_computes_nothing(run_recipe: Run) -> None:
    first, _ = run_recipe(chain())
    second, notes = run_recipe(chain())
    assert (notes.done(), notes.kept()) == ([], ["teacher", "student"])
    assert second.rows == first.rows  # dates included: they were read, not measured again


def test_a_renamed_stage_reruns_nothing_and_its_rows_follow(run_recipe: Run) -> None:
    run_recipe(chain())
    value = chain(name="pupil", teacher="$master")
    value["stages"][0]["train"]["name"] = "master"
    result, notes = run_recipe(value)
    assert notes.done() == []
    assert {row.artifact for row in result.rows} == {"master", "pupil"}


def test_a_changed_field_reruns_only_what_follows(run_recipe: Run) -> None:
    run_recipe(chain())
    _, notes = run_recipe(chain(temperature=2.0))
    assert (notes.kept(), notes.done()) == (["teacher"], ["student"])
    changed = chain()
    changed["stages"][0]["train"]["lr"] = 0.05
    _, notes = run_recipe(changed)
    assert notes.done() == ["teacher", "student"]


def test_another_seed_or_other_data_is_another_result(run_recipe: Run) -> None:
    run_recipe(chain())
    _, notes = run_recipe({**chain(), "seed": 1})
    assert notes.done() == ["teacher", "student"]
    other = chain()
    other["data"] = {"synthetic": {**other["data"]["synthetic"], "noise": 0.2}}
    assert run_recipe(other)[1].done() == ["teacher", "student"]


@pytest.mark.parametrize("saves", [2, 4, 10])
def test_killed_and_run_again_it_ends_as_if_undisturbed(
    run_recipe: Run, runs: Path, killed_at_save: Any, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    undisturbed, _ = run_recipe(chain())
    expected = {label: weights(shelf) for label, shelf in undisturbed.shelves.items()}
    for shelf in undisturbed.shelves.values():
        shelf.forget()
    killed_at_save(saves)
    with pytest.raises(Killed):
        run_recipe(chain())
    assert list(runs.glob("*/state.pt"))
    monkeypatch.undo()
    result, _ = run_recipe(chain())
    assert {label: weights(shelf) for label, shelf in result.shelves.items()} == expected
    assert facts(result.rows) == facts(undisturbed.rows)
    epochs = [json.loads(line) for line in (result.shelves["teacher"].folder / "log.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1]


def test_a_failure_is_not_cached(run_recipe: Run, runs: Path) -> None:
    explosive = mapping({"train": {**TINY, "lr": 1e30, "optimizer": "sgd"}})
    for _ in range(2):
        with pytest.raises(TrainingError, match="lower `lr`"):
            run_recipe(explosive)
    assert not list(runs.glob("*/done"))


def test_what_is_not_done_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not finished"):
        Shelf(tmp_path, "train", "0" * 16).load()


HOLD = """
import sys
from pathlib import Path
from edgepress.core.files import lock
with lock(Path(sys.argv[1]), "held"):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("which", ["recipe", "stage"])
def test_two_runs_at_once_are_refused(run_recipe: Run, which: str) -> None:
    result, _ = run_recipe(chain(), until="teacher")
    folder = result.folder if which == "recipe" else result.shelves["teacher"].folder
    if which == "stage":
        (folder / "done").unlink()  # a finished stage is only read, so nobody has to wait for it
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        with pytest.raises(BusyError, match="already running" if which == "recipe" else "another run"):
            run_recipe(chain())
    finally:
        other.communicate("")
    assert run_recipe(chain())[1].kept() == (["teacher"] if which == "recipe" else [])


def test_until_stops_there_and_from_goes_on_there(run_recipe: Run) -> None:
    with pytest.raises(ConfigError, match="'teacher' before it is not done yet"):
        run_recipe(chain(), start="student")
    _, notes = run_recipe(chain(), until="teacher")
    assert notes.done() == ["teacher"]
    _, notes = run_recipe(chain(), start="student")
    assert (notes.kept(), notes.done()) == (["teacher"], ["student"])


def test_only_leaves_other_branches_out(run_recipe: Run) -> None:
    branches = chain()
    other = {"train": {**branches["stages"][0]["train"], "name": "other"}}
    branches["stages"] = [other, *branches["stages"]]
    _, notes = run_recipe(branches, only=("student",))
    assert notes.done() == ["teacher", "student"]
    with pytest.raises(ConfigError, match="--only student: that stage is not among those to run; mend --from, --until"):
        run_recipe(branches, only=("student",), until="other")
    with pytest.raises(ConfigError, match="--from other: that stage is not"):
        run_recipe(branches, only=("student",), start="other")


def test_fresh_computes_that_stage_and_what_depends_on_it_anew(run_recipe: Run) -> None:
    first, _ = run_recipe(chain())
    before = {label: weights(shelf) for label, shelf in first.shelves.items()}
    _, notes = run_recipe(chain(), fresh=("student",))
    assert (notes.kept(), notes.done()) == (["teacher"], ["student"])
    again, notes = run_recipe(chain(), fresh=("teacher",))
    assert notes.done() == ["teacher", "student"]
    assert {label: weights(shelf) for label, shelf in again.shelves.items()} == before


@pytest.mark.parametrize(
    "option",
    [
        {"start": "student", "fresh": ("teacher",)},
        {"until": "teacher", "fresh": ("student",)},
        {"only": ("teacher",), "fresh": ("student",)},
    ],
)
def test_fresh_outside_of_what_runs_is_refused_and_destroys_nothing(run_recipe: Run, option: dict[str, Any]) -> None:
    first, _ = run_recipe(chain())
    with pytest.raises(ConfigError, match="not among those to run"):
        run_recipe(chain(), **option)
    assert all(shelf.done for shelf in first.shelves.values())


@pytest.mark.parametrize(
    "option", [{"start": "studnet"}, {"until": "studnet"}, {"only": ("studnet",)}, {"fresh": ("studnet",)}]
)
def test_an_unknown_stage_is_named_before_anything_runs(run_recipe: Run, runs: Path, option: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'student'"):
        run_recipe(chain(), **option)
    assert {path.name for path in runs.iterdir()} == {"cache"}


def test_smoke_shrinks_every_stage_and_keeps_apart(run_recipe: Run) -> None:
    trial = smoke(parse_recipe(chain(epochs=50)))
    assert [step.stage.epochs for step in trial.steps] == [1, 1]
    assert trial.name == "test-smoke" and trial.source.limit == 512
    result, _ = run_recipe(replace(trial, source=replace(trial.source, limit=64)))
    assert result.folder.name == "recipe-test-smoke"


def test_a_trial_of_a_deep_teacher_leaves_a_sound_student(run_recipe: Run) -> None:
    deep = {"name": "teacher", "model": "resnet50", "arguments": {"width": 8}, "lr": 0.1, "epochs": 9}
    student = {"name": "student", **TINY, "teacher": "$teacher", "losses": ["review"]}
    recipe = parse_recipe(mapping({"train": deep}, {"distill": student}))
    source = replace(recipe.source, train=512)
    result, _ = run_recipe(smoke(replace(recipe, source=source)))
    student = result.shelves["student"].load()
    assert isinstance(student, Model)
    assert max(p.abs().max().item() for p in student.module.parameters()) < 10


def test_the_content_of_a_weights_file_counts_not_its_place(run_recipe: Run, tmp_path: Path) -> None:
    trained, _ = run_recipe(mapping({"train": TINY}))
    original = trained.shelves["train"].folder / "weights.safetensors"
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(original.read_bytes())

    def load(name: str) -> dict[str, Any]:
        fields = {"model": "cifar_resnet8", "arguments": {"width": 4}, "weights": str(tmp_path / name)}
        return mapping({"load": fields})

    first, _ = run_recipe(load("a.safetensors"))
    assert run_recipe(load("b.safetensors"))[1].kept() == ["load"]
    other, _ = run_recipe(mapping({"train": {**TINY, "lr": 0.01}}))
    (tmp_path / "a.safetensors").write_bytes((other.shelves["train"].folder / "weights.safetensors").read_bytes())
    second, notes = run_recipe(load("a.safetensors"))
    assert notes.done() == ["load"]
    assert first.shelves["load"].key != second.shelves["load"].key


def test_the_code_of_ones_own_network_counts(run_recipe: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code_that_changes.py"
    code.write_text(
        "from torch import nn\n\ndef net(classes) -> nn.Module:\n    return nn.Sequential("
        "nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(12, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = mapping({"load": {"model": "code_that_changes:net"}})
    first, _ = run_recipe(recipe)
    assert run_recipe(recipe)[1].kept() == ["load"]
    code.write_text(code.read_text().replace("ReLU", "Tanh"))
    second, notes = run_recipe(recipe)
    assert notes.done() == ["load"] and first.shelves["load"].key != second.shelves["load"].key


def test_records_and_leftovers_are_found(run_recipe: Run, runs: Path) -> None:
    run_recipe(chain())
    assert [run["name"] for run in recorded_runs(runs)] == ["test"]
    assert [path.name for path in unused(runs)] == []
    run_recipe(chain(temperature=2.0))  # the record of the recipe now points at another student
    [left] = unused(runs)
    assert left.name.startswith("distill-")
    (runs / "recipe-broken").mkdir()
    (runs / "recipe-broken" / "run.json").write_text("{")
    assert [run["name"] for run in recorded_runs(runs)] == ["test"]
