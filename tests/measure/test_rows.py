"""Rows survive writing, tearing and merging; CSV has the columns the issues check."""

import csv
import json
import math
import string
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.errors import DataError, EdgepressError
from edgepress.measure.rows import Row, append_rows, merge_csv, newest, read_csv, read_rows, write_csv

ROW = Row("int8-onnx", "bytes", 98_496.0, "bytes", "lower", date="2026-02-03")
numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@given(st.lists(st.builds(Row, words, words, numbers, words, st.sampled_from(["higher", "lower", ""]), p50=numbers)))
def test_what_is_appended_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    append_rows(path, rows[:2])
    append_rows(path, rows[2:])
    assert read_rows(path) == rows


def test_an_absent_file_holds_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "rows.jsonl") == []


@given(cut=st.integers(1, 200))
def test_a_torn_last_line_is_passed_over_and_then_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    append_rows(path, [ROW])
    whole = path.read_bytes()
    line = json.dumps(asdict(replace(ROW, metric="top1"))).encode()
    path.write_bytes(whole + line[:cut])
    assert read_rows(path) == [ROW]
    later = replace(ROW, metric="latency")
    append_rows(path, [later])
    assert read_rows(path) == [ROW, later]


def test_a_last_row_that_lacks_only_its_newline_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(asdict(ROW)))
    append_rows(path, [ROW])
    assert read_rows(path) == [ROW, ROW]


@pytest.mark.parametrize(
    "line", ["{", "[]", "null", '{"artifact": "a"}', '{"artifact":"a","metric":"b","value":"x"}', "\xff"]
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n" + json.dumps(asdict(ROW)).encode() + b"\n")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: not a row"):
        read_rows(path)


@given(st.binary(max_size=200))
def test_any_bytes_give_rows_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "rows.jsonl"
    path.write_bytes(data)
    try:
        assert isinstance(read_rows(path), list)
    except DataError:
        assert data.strip()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_holds_a_finite_value(value: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        replace(ROW, value=value)


def test_csv_has_exactly_the_columns_of_the_benchmarks(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [ROW, replace(ROW, metric="top1", value=0.1 + 0.2, p50=None)])
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines[0] == (
        "artifact,metric,value,unit,n,p50,p99,runtime,precision,threads,batch,split,"
        "seeds,machine,versions,commit,date,command"
    )
    assert lines[1].startswith("int8-onnx,bytes,98496,bytes,1,,")
    assert lines[2].startswith("int8-onnx,top1,0.3,")


lines = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=30)


@given(st.lists(st.builds(Row, lines, lines, st.integers(0, 2**50).map(float), lines, command=lines), max_size=5))
def test_csv_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    write_csv(path, rows)
    assert read_csv(path) == rows


def test_a_csv_row_is_one_line(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [replace(ROW, command="a \\\n  b\r\nc")])
    assert read_csv(tmp_path / "rows.csv")[0].command == "a \\   b c"
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 2


def test_the_newest_row_of_an_artifact_and_metric_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    other = replace(ROW, artifact="teacher", better="")
    new = replace(ROW, value=90_000.0, date="2026-02-04T00:00:00Z", better="")
    assert merge_csv(path, [replace(ROW, better=""), other]) == [replace(ROW, better=""), other]
    assert merge_csv(path, [new]) == [new, other]
    assert merge_csv(path, [replace(ROW, better="")]) == [new, other], "an older row does not replace a newer one"
    assert read_csv(path) == [new, other]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from(string.digits))))
def test_newest_keeps_one_of_each_and_the_largest_date(found: list[tuple[str, str, str]]) -> None:
    kept = newest(Row(a, m, 1.0, date=d) for a, m, d in found)
    dates = {(a, m): max(d for b, n, d in found if (a, m) == (b, n)) for a, m, _ in found}
    assert {(row.artifact, row.metric): row.date for row in kept} == dates
    assert len(kept) == len(dates)


def test_a_csv_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerow(["artifact", "metric"])
    with pytest.raises(DataError, match="columns"):
        merge_csv(path, [ROW])
    assert path.read_text() == "artifact,metric\n", "nothing is lost"


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgepressError, match="not a folder"):
        append_rows(tmp_path / "file" / "deep" / "rows.jsonl", [ROW])
