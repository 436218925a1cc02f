"""What stages noted beside their results, as tables for the report: rungs of a ladder, what a student took over."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from edgepress.measure.history import Run, Step, mapping, number


@dataclass(frozen=True)
class Table:
    """A table ready to print, its first column naming the lines, with `remarks` below it."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()


def findings(run: Run) -> list[Table]:
    """Return the tables of all stages, in order. A note that is damaged or of another version leaves gaps."""
    return [table for step in run.steps for table in _tables(step)]


def _tables(step: Step) -> Iterator[Table]:
    distillation, ladder = mapping(step.notes.get("distillation")), mapping(step.notes.get("ladder"))
    if distillation:
        yield _distillation(step.label, distillation, step.notes.get("losses"))
        if confusions := [mapping(entry) for entry in _list(distillation.get("confusions"))]:
            yield _confusions(step.label, confusions)
    if ladder:
        yield _ladder(step.label, ladder)


def _distillation(label: str, found: dict[str, Any], why: object) -> Table:
    teacher, student = mapping(found.get("teacher")), mapping(found.get("student"))
    lines = [
        ("calibration error %" if name == "ece" else f"{name} %", _text(teacher.get(name)), _text(student.get(name)))
        for name in teacher
    ]
    lines.append(("agreement %", "", _text(found.get("agreement"))))
    entropy, most = number(found.get("soft_label_entropy")), number(found.get("highest_entropy"))
    remarks = [f"{why[0].upper()}{why[1:]}."] if isinstance(why, str) and why else []
    if entropy is not None and most:
        remarks.append(
            f"Soft labels at temperature {found.get('temperature')} have an entropy of {entropy:.3f} nats, "
            f"{100 * entropy / most:.0f} % of the most {most:.3f} could be: near 0 they say no more than the labels."
        )
    if found.get("normalized_apart"):
        remarks.append("Teacher and student take images of another mean and std: each was given its own.")
    time = mapping(found.get("teacher_time"))
    saved = number(time.get("saved_seconds"))
    if time.get("kept") and saved:
        remarks.append(f"Keeping the teacher's outputs saved {saved:.0f} s.")
    remarks += [f"Compared: {line}" for line in map(str, _list(found.get("compared")))]
    remarks += [f"Warning: {line}" for line in map(str, _list(found.get("warnings")))]
    return Table(
        f"What {label} learned from its teacher", ("validation", "teacher", "student"), tuple(lines), tuple(remarks)
    )


def _confusions(label: str, entries: list[dict[str, Any]]) -> Table:
    lines = tuple(
        (
            f"{entry.get('true')} taken for {entry.get('given')}",
            _text(entry.get("teacher"), 0),
            _text(entry.get("student"), 0),
        )
        for entry in entries
    )
    return Table(f"Where {label} errs otherwise than its teacher", ("images", "teacher", "student"), lines)


def _ladder(label: str, found: dict[str, Any]) -> Table:
    floating, target = number(found.get("floating")), number(found.get("target"))
    lines = [("floating point", _text(floating), "", "", "", "")]
    for rung in map(mapping, _list(found.get("rungs"))):
        score = number(rung.get("score"))
        drop = floating - score if floating is not None and score is not None else None
        layers = mapping(rung.get("layers"))
        name = str(rung.get("name")) + (f" ({len(layers)} layers)" if layers else "")
        kept = "kept" if rung.get("kept") else "left out"
        lines.append((name, _text(score), _text(drop), _text(rung.get("gained")), _text(rung.get("seconds"), 1), kept))
    sensitive = sorted(mapping(found.get("sensitivity")).items(), key=lambda item: -(number(item[1]) or 0))[:5]
    remarks = [f"The target, {_text(target)}, was {'reached' if found.get('reached') else 'not reached'}."]
    if sensitive:
        remarks.append("Most sensitive layers: " + ", ".join(name for name, _ in sensitive) + ".")
    columns = ("rung", f"{found.get('metric')} %", "drop", "gained", "seconds", "")
    return Table(f"The ladder of {label}", columns, tuple(lines), tuple(remarks))


def _text(value: object, digits: int = 2) -> str:
    found = number(value)
    return "-" if found is None else f"{found:.{digits}f}"


def _list(value: object) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []
