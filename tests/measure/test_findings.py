"""What stages noted becomes tables; a damaged note leaves gaps and never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgepress.measure.findings import findings
from edgepress.measure.history import Run, Step, read_run
from edgepress.measure.report import render_markdown
from edgepress.measure.summary import summarize

LADDER = {
    "metric": "top1", "floating": 90.0, "target": 89.7, "score": 89.8, "reached": True,
    "sensitivity": {"fc": 0.1, "stem": 3.0},
    "rungs": [
        {"name": "nearest", "seconds": 1.04, "score": 80.0, "gained": 80.0, "kept": True, "layers": {}},
        {"name": "more bits", "seconds": 9.0, "score": 89.8, "gained": 9.8, "kept": True, "layers": {"stem": 8}},
    ],
}  # fmt: skip
DISTILLATION = {
    "teacher": {"top1": 93.0, "ece": 4.0}, "student": {"top1": 88.5, "ece": 8.0}, "agreement": 90.5, "temperature": 4.0,
    "soft_label_entropy": 0.23, "highest_entropy": 2.303, "warnings": ["one term dwarfs the others"], "compared": [],
    "confusions": [{"true": "cat", "given": "dog", "teacher": 3, "student": 40}],
    "teacher_time": {"kept": True, "seconds": 10.0, "saved_seconds": 321.0},
}  # fmt: skip


def run(notes: dict[str, Any]) -> Run:
    step = Step("net", "quantize", "", None, "", "", "", False, {}, (), (), notes)
    return Run("r", {}, "", "", {}, (step,))


def test_a_ladder_is_told_rung_by_rung() -> None:
    [table] = findings(run({"ladder": LADDER}))
    assert table.columns[:3] == ("rung", "top1 %", "drop")
    assert table.lines[1] == ("nearest", "80.00", "10.00", "80.00", "1.0", "kept")
    assert table.lines[2][0] == "more bits (1 layers)"
    assert "reached" in table.remarks[0] and table.remarks[1].startswith("Most sensitive layers: stem, fc")


def test_a_distillation_is_diagnosed() -> None:
    taught, confusions = findings(run({"distillation": DISTILLATION}))
    assert ("top1 %", "93.00", "88.50") in taught.lines and ("agreement %", "", "90.50") in taught.lines
    assert any("10 % of the most" in remark for remark in taught.remarks)
    assert any("saved 321 s" in remark for remark in taught.remarks)
    assert "Warning: one term dwarfs the others" in taught.remarks
    [again, _] = findings(run({"distillation": DISTILLATION, "losses": "losses by the kind of pair: review"}))
    assert again.remarks[0] == "Losses by the kind of pair: review."
    assert confusions.lines == (("cat taken for dog", "3", "40"),)


def test_notes_on_disk_reach_the_report(make_run: Callable[..., Path]) -> None:
    folder = make_run()
    about = json.loads((folder / "run.json").read_text())["stages"][-1]
    place = next(path for path in folder.parent.iterdir() if path.name == Path(about["folder"]).name)
    (place / "notes.json").write_text(json.dumps({"ladder": LADDER}))
    found = read_run(folder)
    assert "| nearest | 80.00 | 10.00 |" in render_markdown(found, summarize(found))
    (place / "notes.json").write_text("{torn")
    assert findings(read_run(folder)) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional={name: VALUES for name in {**LADDER, **DISTILLATION}}))
def test_no_note_is_too_odd(note: dict[str, Any]) -> None:
    for table in findings(run({"ladder": note, "distillation": note})):
        assert all(len(line) == len(table.columns) for line in table.lines)
