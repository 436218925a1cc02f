"""`ls`, `show`, `report`, `gc`: looking at what was run, and removing only what nobody needs."""

import json
import shutil
from pathlib import Path

import pytest

from cli.helpers import Call, Small
from edgepress.core.files import lock


@pytest.fixture
def runs(small: Small, tmp_path: Path) -> Path:
    """A copy of the small run whose record no longer points at the student and what follows from it."""
    folder = tmp_path / "runs"
    shutil.copytree(small.runs, folder)
    path = folder / "recipe-small" / "run.json"
    record = json.loads(path.read_text())
    record["stages"] = record["stages"][:1]
    path.write_text(json.dumps(record))
    return folder


def gc(call: Call, runs: Path, *words: str) -> dict[str, list[str]]:
    result = call("gc", "--runs", runs, "--json", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_ls(small: Small, call: Call, tmp_path: Path) -> None:
    [run] = json.loads(call("ls", "--runs", small.runs, "--json").stdout)
    assert run["name"] == "small" and [s["label"] for s in run["stages"]] == ["teacher", "student", "file"]
    assert all(stage["bytes"] > 500 for stage in run["stages"])
    assert run["bytes"] == sum(stage["bytes"] for stage in run["stages"])
    text = call("ls", "--runs", small.runs).stdout
    assert "small" in text and "student" in text and max(len(line) for line in text.splitlines()) <= 100
    empty = call("ls", "--runs", tmp_path / "none")
    assert empty.exit_code == 0 and "no runs in" in empty.stderr


def test_show_a_run_a_stage_and_a_bundle(small: Small, call: Call) -> None:
    runs = ("--runs", small.runs)
    assert "digits_cnn (width 4)" in call("show", "small/student", *runs).stdout
    assert "distill-" in call("show", "small", *runs).stdout
    assert "3 labels: grating0" in call("show", small.bundle).stdout
    kinds = [
        json.loads(call("show", what, *runs, "--json").stdout)["kind"]
        for what in (
            "small",
            "small/student",
            small.printed["stages"]["student"],
            small.bundle,
            small.runs / "recipe-small",
        )
    ]
    assert kinds == ["run", "stage", "stage", "bundle", "run"]


def test_show_says_what_it_cannot_find(small: Small, call: Call, tmp_path: Path) -> None:
    assert "did you mean 'student'?" in call("show", "small/studet", "--runs", small.runs).stderr
    assert "neither a run, a stage nor a bundle" in call("show", tmp_path).stderr


def test_show_an_unfinished_stage(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "train-0123456789abcdef"
    folder.mkdir()
    (folder / "state.pt").write_bytes(b"")
    assert "unfinished" in call("show", folder).stdout
    assert json.loads(call("show", folder, "--json").stdout)["done"] is False


def test_a_damaged_record_is_told(call: Call, runs: Path) -> None:
    (runs / "recipe-small" / "run.json").write_text('{"name": ')
    assert call("show", "small", "--runs", runs).exit_code == 4
    # All results look unused now; removing them would be wrong.
    assert call("gc", "--yes", "--runs", runs).exit_code == 4
    assert len(list(runs.glob("*/done"))) == 3


def test_report_is_written_again(small: Small, call: Call) -> None:
    page = Path(small.printed["report"])
    page.unlink()
    files = json.loads(call("report", "small", "--runs", small.runs, "--json").stdout)
    assert Path(files["html"]) == page and all(Path(file).stat().st_size > 100 for file in files.values())
    wrong = call("report", small.bundle, "--runs", small.runs)
    assert wrong.exit_code == 2 and "is a bundle, not a run" in wrong.stderr


def test_gc_finds_nothing_where_all_is_used(small: Small, call: Call) -> None:
    assert gc(call, small.runs, "--yes")["unused"] == []
    assert len(list(small.runs.glob("*/done"))) == 3


def test_gc_lists_first_and_removes_when_told(call: Call, runs: Path) -> None:
    before = sorted(runs.rglob("*"))
    listed = gc(call, runs)
    assert len(listed["unused"]) == 2 and listed["removed"] == []
    assert "--yes removes them" in call("gc", "--runs", runs).stderr
    assert sorted(runs.rglob("*")) == before
    removed = gc(call, runs, "--yes")
    assert len(removed["removed"]) == 2 and removed["removed_bytes"] == listed["bytes"]
    assert [path.parent.name.partition("-")[0] for path in runs.glob("*/done")] == ["train"]


def test_gc_removes_kept_outputs_of_teachers_when_told(call: Call, runs: Path) -> None:
    assert list((runs / "cache" / "teacher").rglob("*.npy"))
    told = call("gc", "--yes", "--runs", runs).stderr
    assert "outputs of teachers take" in told and (runs / "cache" / "teacher").exists()
    assert len(gc(call, runs, "--yes", "--cache")["removed"]) == 1
    assert not (runs / "cache" / "teacher").exists() and (runs / "cache" / "precision").exists()


def test_gc_leaves_what_is_not_ours(call: Call, runs: Path, tmp_path: Path) -> None:
    (runs / "notes").mkdir()
    (runs / "notes" / ".lock").touch()
    student = next(runs.glob("distill-*"))
    (student / "thesis.txt").write_text("mine")
    outside = tmp_path / "outside"
    shutil.copytree(next(runs.glob("export-*")), outside)
    (runs / "train-00000000000000aa").symlink_to(outside)
    found = gc(call, runs, "--yes")
    assert len(found["removed"]) == 1
    assert (student / "thesis.txt").exists() and (student / "done").exists()
    assert (runs / "notes").exists() and (outside / "done").exists()


def test_gc_leaves_what_a_process_holds(call: Call, runs: Path) -> None:
    student = next(runs.glob("distill-*"))
    with lock(student, ""):
        found = gc(call, runs, "--yes")
    assert len(found["removed"]) == 1 and (student / "done").exists()


def test_gc_waits_for_a_running_recipe(call: Call, runs: Path) -> None:
    with lock(runs / "recipe-other", ""):
        result = call("gc", "--yes", "--runs", runs)
        assert result.exit_code == 8 and "'other' is running" in result.stderr
        assert len(gc(call, runs)["unused"]) == 2, "looking is allowed"
    assert len(list(runs.glob("*/done"))) == 3
