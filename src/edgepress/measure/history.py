"""What a finished (or half-finished) run left on disk, read back for its report. What is missing is empty, no error."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from edgepress.core.errors import DataError
from edgepress.measure.rows import Row, newest, read_rows


@dataclass(frozen=True)
class Step:
    """One stage of a run: how it was called, what it was made from, its newest rows, its epochs, its notes."""

    label: str
    stage: str
    key: str
    seconds: float | None
    source: str
    precision: str
    runtime: str
    exported: bool
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    epochs: tuple[dict[str, Any], ...]
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def simulated(self) -> bool:
        """True for a quantized network that still runs in PyTorch: its score is real, its bytes and its time are those
        of a floating-point stand-in."""
        return not self.exported and self.precision not in ("", "fp32")

    def value(self, metric: str) -> float | None:
        """Return the newest value of `metric`, None where it was not measured."""
        return next((row.value for row in self.rows if row.metric == metric), None)


@dataclass(frozen=True)
class Run:
    """A run of a recipe, stages in order."""

    name: str
    recipe: dict[str, Any]
    command: str
    date: str
    environment: dict[str, str]
    steps: tuple[Step, ...]

    @property
    def rows(self) -> list[Row]:
        """All rows, stage by stage."""
        return [row for step in self.steps for row in step.rows]

    def step(self, label: str) -> Step | None:
        """Return the step called `label`."""
        return next((step for step in self.steps if step.label == label), None)


def read_run(folder: Path) -> Run:
    """Return the run in `folder` (`runs/recipe-<name>`); raise `DataError` where there is none or it is damaged."""
    path = folder / "run.json"
    if not path.exists():
        raise DataError(f"no run at {folder}: {path.name} is missing; `edgepress ls` shows the runs there are")
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}); run the recipe again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(found).__name__}; run the recipe again")
    content = cast(dict[str, Any], found)
    recipe = mapping(content.get("recipe"))
    entries = [mapping(entry) for entry in _list(content.get("stages"))]
    steps = [_step(entry, index, recipe, folder.parent) for index, entry in enumerate(entries)]
    return Run(
        name=str(content.get("name") or folder.name.removeprefix("recipe-")),
        recipe=recipe,
        command=str(content.get("command") or ""),
        date=str(content.get("date") or ""),
        environment={str(k): _plain(v) for k, v in mapping(content.get("environment")).items() if v not in (None, "")},
        steps=tuple(steps),
    )


def _step(entry: dict[str, Any], index: int, recipe: dict[str, Any], runs: Path) -> Step:
    label = str(entry.get("label") or entry.get("stage") or f"stage {index + 1}")
    folder = _find(runs, str(entry.get("folder") or ""))
    # A renamed stage reruns nothing, so its rows may carry an older label.
    rows = newest(replace(row, artifact=label) for row in (_rows(folder) if folder else []))
    runtime = next((row.runtime for row in rows if row.runtime), "")
    seconds = entry.get("seconds")
    return Step(
        label=label,
        stage=str(entry.get("stage") or ""),
        key=str(entry.get("key") or ""),
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        source=str(entry.get("input") or "").removeprefix("$"),
        precision=str(entry.get("precision") or next((row.precision for row in rows), "")),
        runtime=runtime,
        exported=runtime not in ("", "torch") or (folder is not None and (folder / "bundle").is_dir()),
        settings=_settings(recipe, label, index),
        rows=tuple(rows),
        epochs=_epochs(folder / "log.jsonl") if folder else (),
        notes=_notes(folder / "notes.json") if folder else {},
    )


def _notes(path: Path) -> dict[str, Any]:
    try:
        return mapping(json.loads(path.read_bytes())) if path.exists() else {}
    except ValueError:
        return {}  # the report shows what there is


def _find(runs: Path, name: str) -> Path | None:
    """Return the stage's folder; a `runs` folder that was moved takes its stages along."""
    tried = [Path(name), runs / name, runs / Path(name).name] if name else []
    return next((path for path in tried if path.is_absolute() and path.is_dir()), None) or next(
        (path for path in tried[1:] if path.is_dir()), None
    )


def _rows(folder: Path) -> list[Row]:
    """Return all rows of a stage: one file per measurement in `rows/`, or one for all, `rows.jsonl`."""
    return [
        row for path in (*sorted((folder / "rows").glob("*.jsonl")), folder / "rows.jsonl") for row in read_rows(path)
    ]


def _settings(recipe: dict[str, Any], label: str, index: int) -> dict[str, Any]:
    """Return the fields the recipe gives the stage called `label`, or the one at `index` where none is called so."""
    fields = [mapping(next(iter(mapping(entry).values()), None)) for entry in _list(recipe.get("stages"))]
    named = next((found for found in fields if found.get("name") == label), None)
    if named is not None:
        return named
    return fields[index] if index < len(fields) and not fields[index].get("name") else {}


def _epochs(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the epochs of a training log in order. A resumed run logs an epoch twice: the later one counts."""
    if not path.exists():
        return ()
    epochs: dict[int, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines():
        try:
            event = mapping(json.loads(line))
        except ValueError:
            continue  # torn by a kill; the epoch is logged again
        number = event.get("epoch")
        if event.get("event") == "epoch" and isinstance(number, int):
            epochs[number] = event
    return tuple(epochs[number] for number in sorted(epochs))


def number(value: object) -> float | None:
    """Return `value` as a finite float, None where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def mapping(value: object) -> dict[str, Any]:
    """Return `value` where it is a mapping, else an empty one."""
    return {str(k): v for k, v in cast(Mapping[Any, Any], value).items()} if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{k} {v}" for k, v in cast(Mapping[Any, Any], value).items())
    if isinstance(value, list):
        return ", ".join(str(v) for v in cast(list[Any], value))
    return str(value)
