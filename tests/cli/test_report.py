"""`report` of a run: layers and mistakes of its result are looked at once, and left out where they cannot be."""

import json
import shutil
from pathlib import Path

import pytest

from cli.helpers import Call, Small


@pytest.fixture
def copy(small: Small, tmp_path: Path) -> Path:
    """A copy of the small run's folder of runs, without what was found out about its result."""
    runs = tmp_path / "runs"
    shutil.copytree(small.runs, runs)
    (runs / "recipe-small" / "details.json").unlink()
    return runs


def test_a_run_leaves_the_layers_and_mistakes_of_its_file(small: Small) -> None:
    page = Path(small.printed["report"])
    found = json.loads(page.with_name("details.json").read_bytes())
    assert found["images"] == 24 and len(found["files"]) == len(found["names"]) > 1
    assert found["wrong"]["confusion"] is not None and found["layers"]
    text = page.read_text()
    assert "Layer by layer" in text and all(f">{name}</th>" in text for name in found["names"])


def test_what_was_found_out_is_kept(copy: Path, call: Call) -> None:
    details = copy / "recipe-small" / "details.json"
    assert call("report", "small", "--runs", copy).exit_code == 0
    before = details.stat().st_mtime_ns
    assert call("report", "small", "--runs", copy).exit_code == 0
    assert details.stat().st_mtime_ns == before
    assert not list(copy.glob("*/layers.json")), "stages' folders are the runner's"


def test_without_its_data_the_report_is_shorter(copy: Path, call: Call) -> None:
    path = copy / "recipe-small" / "run.json"
    record = json.loads(path.read_text())
    record["recipe"]["data"] = {"folder": {"root": str(copy / "gone")}}
    path.write_text(json.dumps(record))
    result = call("report", "small", "--runs", copy)
    assert result.exit_code == 0 and "no layers and pictures" in result.stderr
    assert "Layer by layer" not in (copy / "recipe-small" / "report.html").read_text()
