"""The driver of a topic: which figures, which rows, where they go."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from benchmarks.base import Options, chosen, main, one_thread

from benchmarks import base
from edgepress.core.errors import EdgepressError, UnknownNameError
from edgepress.measure.rows import Row, read_csv


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two figures, of which the second fails; results and work lie in a temporary folder."""
    monkeypatch.setattr(base, "ROOT", tmp_path)
    monkeypatch.setattr(base, "WORK", tmp_path / "work")

    def good(options: Options) -> list[Row]:
        return [options.row("thing", "speedup", 2.5, "x", "higher", n=3)]

    def bad(options: Options) -> list[Row]:
        raise EdgepressError("no luck")

    for name, measure in (("good_one", good), ("bad_one", bad)):
        module = ModuleType(name)
        module.__dict__["measure"] = measure
        monkeypatch.setitem(sys.modules, f"benchmarks.figures.{name}", module)
    return ["good-one", "bad-one"]


def test_rows_are_kept_although_a_later_figure_fails(
    figures: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("topic", figures, []) == EdgepressError.exit_code
    assert "no luck" in capsys.readouterr().err
    [row] = read_csv(tmp_path / "benchmarks" / "results" / "topic.csv")
    assert (row.artifact, row.metric, row.value, row.n) == ("thing", "speedup", 2.5, 3)
    assert row.command == "python -m benchmarks.topic --only good-one"
    assert row.machine and row.versions and row.date.endswith("Z")


def test_a_trial_leaves_the_results_alone(figures: list[str], tmp_path: Path) -> None:
    assert main("topic", figures, ["--quick", "--only", "good-one"]) == 0
    assert not (tmp_path / "benchmarks").exists()
    assert read_csv(tmp_path / "work" / "quick" / "topic.csv")[0].command.endswith("--quick")


def test_an_unknown_figure_is_named(figures: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main("topic", figures, ["--only", "god-one"]) == UnknownNameError.exit_code
    assert "did you mean 'good-one'?" in capsys.readouterr().err


def test_figures_are_made_in_the_order_asked_for() -> None:
    assert chosen("", ["a", "b"]) == ["a", "b"]
    assert chosen(" b, a,", ["a", "b"]) == ["b", "a"]


def test_children_find_the_sources_and_use_one_thread() -> None:
    environment = one_thread(EXTRA="1")
    assert environment["OMP_NUM_THREADS"] == environment["EXTRA"] == "1"
    assert environment["PYTHONPATH"].startswith(str(base.ROOT / "src"))


def test_every_figure_of_the_foundation_is_there() -> None:
    from benchmarks.foundation import FIGURES

    files = {path.stem.replace("_", "-") for path in (base.ROOT / "benchmarks" / "figures").glob("[a-z]*.py")}
    assert set(FIGURES) <= files
