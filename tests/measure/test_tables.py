"""Tables fit where they are shown and stay tables whatever a name holds."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgepress.measure.history import read_run
from edgepress.measure.rows import Row
from edgepress.measure.tables import lines, main_latency, ms_text, size_text, text_table, times_text, to_markdown

TOP1 = Row("teacher", "top1", 93.39, "%", "higher", runtime="torch", precision="fp32")


def _print(rows: list[Row], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(text_table(rows))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_one_line_per_artifact_in_80_columns(make_run: object) -> None:
    shown = _print(read_run(make_run()).rows)  # type: ignore[operator]
    assert len(shown) == 7 and max(map(len, shown)) <= 80
    assert shown[0].split() == ["artifact", "runtime", "precision", "top-1", "%", "size", "ms", "speedup"]
    assert shown[6].split() == ["int8-onnx", "onnxruntime", "w8a8", "88.65", "97.9", "kB", "0.287", "34x"]


def test_a_long_name_is_folded_not_cut() -> None:
    shown = _print([replace(TOP1, artifact="student-with-a-very-long-name-" * 3)])
    assert max(map(len, shown)) <= 80
    assert "".join(line.split(" ")[0] for line in shown[1:]) == "student-with-a-very-long-name-" * 3


def test_speedup_is_against_the_first_that_was_timed() -> None:
    timed = [replace(TOP1, artifact=name, metric="latency", value=ms) for name, ms in (("a", 4.0), ("b", 1.0))]
    assert [line.speedup for line in lines([TOP1, *timed])] == [None, 1.0, 4.0]


def test_the_latency_most_artifacts_have_is_shown() -> None:
    names = ["latency_b8", "latency", "latency_b8", "latency_p90", "latency_spread", "latency_p90"]
    rows = [replace(TOP1, artifact=str(i), metric=name) for i, name in enumerate(names)]
    assert main_latency(rows) == "latency_b8"
    assert main_latency([TOP1]) == ""


def test_no_rows_give_an_empty_table() -> None:
    assert len(_print([])) == 1
    assert to_markdown([]).count("\n") == 2


@given(st.text(min_size=1))
def test_markdown_keeps_its_columns(name: str) -> None:
    table = to_markdown([replace(TOP1, artifact=name)])
    line = table.split("\n")[2]
    assert table.count("\n") == 3
    assert line.replace("\\\\", "").replace("\\|", "").count("|") == 8
    assert "<" not in line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8 B"),
        (9_999, "9999 B"),
        (98_496, "98.5 kB"),
        (999_600, "1 MB"),
        (3_444_000, "3.44 MB"),
        (2e9, "2 GB"),
        (None, "-"),
    ],
)
def test_sizes(value: float | None, text: str) -> None:
    assert size_text(value) == text


def test_figures() -> None:
    assert [ms_text(v) for v in (0.2871, 9.84, 12.0, 1234.5, None)] == ["0.287", "9.84", "12.0", "1234", "-"]
    assert [times_text(v) for v in (34.2, 9.96, 3.42, 0.64, None)] == ["34x", "10x", "3.4x", "0.64x", "-"]


def test_names_are_not_markup(tmp_path: Path) -> None:
    assert "[red]x[/red]" in _print([replace(TOP1, artifact="[red]x[/red]")])[1]
