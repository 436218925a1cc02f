"""Two runs side by side: what both measured, what changed, and how each was made."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.core.errors import DataError
from edgepress.core.files import write_bytes
from edgepress.measure import charts
from edgepress.measure.bench import BENCH, Bench, read_bench
from edgepress.measure.charts import Point
from edgepress.measure.history import read_run
from edgepress.measure.matrix_rows import rows as matrix_rows
from edgepress.measure.render import Figure, render
from edgepress.measure.report import as_yaml
from edgepress.measure.rows import Row
from edgepress.measure.summary import SAME_SCORE, SAME_SPEED, Tile, summarize
from edgepress.measure.tables import main_latency, main_score, ms_text, percent, score_name, size_text, times_text

TOLD = ("latency", "latency_p90", "bytes", "energy", "energy_estimate", "load", "peak_rss", "macs", "params")
"""Metrics of cost that are compared, beside scores and agreements."""


@dataclass(frozen=True)
class Side:
    """One of two runs: its rows by artifact and metric, the artifact it was made for, and how it was made."""

    name: str
    rows: tuple[Row, ...]
    result: str
    facts: dict[str, str]
    recipe: str

    def value(self, artifact: str, metric: str) -> float | None:
        """Return a figure, None where it was not measured."""
        return next((r.value for r in self.rows if (r.artifact, r.metric) == (artifact, metric)), None)


@dataclass(frozen=True)
class Change:
    """A line of the comparison; `order` sorts by how much changed, `good` is None for no change to speak of."""

    artifact: str
    metric: str
    a: float
    b: float
    a_text: str
    b_text: str
    change: str
    order: float
    good: bool | None


def read_side(folder: Path) -> Side:
    """Return the recipe's run or the matrix in `folder`. Raises `DataError` where it is neither, or damaged."""
    if (folder / BENCH).exists():
        return _bench_side(read_bench(folder), folder)
    run = read_run(folder)
    facts = {"command": run.command, "date": run.date[:16].replace("T", " "), **run.environment}
    return Side(run.name, tuple(run.rows), summarize(run).result, facts, as_yaml(run.recipe))


def _bench_side(bench: Bench, folder: Path) -> Side:
    results = bench.results(folder)
    found = matrix_rows(results, bench.score, bench.command, bench.split)
    prefix = {result.cell.artifact for result in results}
    # With one network on both sides its name only gets in the way: the same network has another name elsewhere.
    name = (lambda row: row.artifact.partition("/")[2]) if len(prefix) == 1 else (lambda row: row.artifact)
    plain = tuple(Row(**{**vars(row), "artifact": name(row)}) for row in found)
    chosen = next((v.chosen for v in bench.verdicts(results).values() if v.chosen is not None), None)
    result = "" if chosen is None else f"{chosen.cell.runtime}-{chosen.cell.precision}"
    if chosen is not None and len(prefix) > 1:
        result = f"{chosen.cell.artifact}/{result}"
    facts = {"command": bench.command, "date": bench.date[:16].replace("T", " "), "data": bench.data, "on": bench.on}
    return Side(bench.name, plain, result, {**facts, **bench.environment}, "")


def write_comparison(a: Side, b: Side, to: Path) -> Path:
    """Write the page that compares two runs to the file `to`, and return it.

    Raises `DataError` where they have nothing in common, and `MissingExtraError` on the base install.
    """
    found = changes(a, b)
    if not found:
        raise DataError(f"{a.name!r} and {b.name!r} share no figure: no artifact of one has a name of the other")
    write_bytes(to, render_comparison(a, b, found).encode("utf-8", "replace"))
    return to


def render_comparison(a: Side, b: Side, found: Sequence[Change]) -> str:
    """Return the page of two runs."""
    better, worse = _told(found, True), _told(found, False)
    facts = list(dict.fromkeys([*a.facts, *b.facts]))
    mine, theirs = {row.artifact for row in a.rows}, {row.artifact for row in b.rows}
    lacking = (("Only in A", sorted(mine - theirs)), ("Only in B", sorted(theirs - mine)))
    return render(
        "compare.html.jinja",
        tuple(_figures(a, b)),
        a=a,
        b=b,
        lead=sentence(a, b),
        remarks=_remarks(a, b),
        tiles=_tiles(a, b),
        better=better,
        worse=worse,
        lines=found,
        only=[(name, ", ".join(items)) for name, items in lacking if items],
        facts=[(name, *both) for name in facts if any(both := (a.facts.get(name, ""), b.facts.get(name, "")))],
        difference="\n".join(_difference(a.recipe, b.recipe)),
    )


def changes(a: Side, b: Side) -> list[Change]:
    """Return a line per artifact and metric that both have, in A's order."""
    theirs = {(row.artifact, row.metric): row for row in b.rows}
    found: list[Change] = []
    for row in a.rows:
        other = theirs.get((row.artifact, row.metric))
        score = row.unit == "%" and row.better == "higher"
        if other is None or not (score or row.metric.partition("_t")[0].partition("_b")[0] in TOLD):
            continue
        found.append(_change(row, other, score))
    return found


def _change(row: Row, other: Row, score: bool) -> Change:
    if score:
        points = other.value - row.value
        text, order = f"{points:+.2f}".replace("-", "\u2212"), points
        good = None if abs(points) < SAME_SCORE else points > 0
    else:
        factor = row.value / other.value if other.value else 0.0
        text, order = times_text(factor) if factor else "-", factor
        good = None if not factor or 1 / SAME_SPEED < factor < SAME_SPEED else factor > 1
    return Change(
        row.artifact, row.metric, row.value, other.value, _text(row, row.value), _text(row, other.value), text, order,
        good,
    )  # fmt: skip


def sentence(a: Side, b: Side) -> str:
    """Return in one sentence how the results of both runs compare."""
    if not a.result or not b.result:
        return "One of the runs has no result yet; what both measured is below."
    same = a.result == b.result
    who = f"`{b.result}` in B against A" if same else f"`{b.result}` of B against `{a.result}` of A"
    parts: list[str] = []
    for metric, words in (("bytes", ("smaller", "larger")), (main_latency(b.rows), ("faster", "slower"))):
        before, after = a.value(a.result, metric), b.value(b.result, metric)
        if before and after:
            factor = before / after
            alike = 1 / SAME_SPEED < factor < SAME_SPEED
            told = f"{times_text(max(factor, 1 / factor))} {words[factor < 1]}"
            parts.append(f"as {'large' if metric == 'bytes' else 'fast'}" if alike else told)
    score = main_score(b.rows)
    before, after = a.value(a.result, score), b.value(b.result, score)
    if before is not None and after is not None:
        points = f"{after - before:+.2f} points".replace("-", "\u2212")
        points = "the same" if abs(after - before) < SAME_SCORE else points
        parts.append(f"{points} {score_name(score)} ({percent(after)} % against {percent(before)} %)")
    return f"{who}: {', '.join(parts)}." if parts else f"{who}: nothing that both measured."


def _remarks(a: Side, b: Side) -> list[str]:
    differs = [name for name in ("machine", "versions") if a.facts.get(name) != b.facts.get(name)]
    if not differs:
        return []
    what = " and ".join({"machine": "on another machine", "versions": "with other versions"}[name] for name in differs)
    return [f"They were measured {what}: times are not comparable as such."]


def _tiles(a: Side, b: Side) -> list[Tile]:
    if not a.result or not b.result:
        return []
    made: list[Tile] = []
    for name, metric in (
        (score_name(main_score(b.rows)), main_score(b.rows)),
        ("latency", main_latency(b.rows)),
        ("size", "bytes"),
        ("energy", "energy"),
    ):
        before, after = a.value(a.result, metric), b.value(b.result, metric)
        row = next((r for r in b.rows if (r.artifact, r.metric) == (b.result, metric)), None)
        if before is None or after is None or row is None:
            continue
        told = _change(Row(**{**vars(row), "value": before}), row, row.unit == "%")
        figure, _, unit = _text(row, after).partition(" ")
        made.append(Tile(name, figure, unit or row.unit, f"{_text(row, before)} in A: {told.change}", told.good))
    return made


def _told(found: Sequence[Change], good: bool) -> list[str]:
    """Return the changes for the better, or the worse, that matter most, as lines."""
    costs = [line for line in found if line.metric.split("_")[0] in ("latency", "bytes", "energy")]
    kept = [line for line in costs if line.good is good and not line.metric.startswith("latency_p90")]
    kept += [line for line in found if line.good is good and line.metric in ("top1", "miou")]
    strongest = sorted(kept, key=lambda line: abs(line.order - (0 if line.metric in ("top1", "miou") else 1)))[::-1]
    return [f"`{one.artifact}` {one.metric}: {one.a_text} to {one.b_text} ({one.change})" for one in strongest[:6]]


def _figures(a: Side, b: Side) -> list[Figure]:
    score, found = main_score([*a.rows, *b.rows]), list[Figure]()
    latency = main_latency([*a.rows, *b.rows])
    for name, heading, metric, axis in (
        ("tradeoff-latency", "Accuracy against latency", latency, "latency, ms (log)"),
        ("tradeoff-bytes", "Accuracy against size", "bytes", "size (log)"),
        ("tradeoff-energy", "Accuracy against energy", "energy", "energy, mJ (log)"),
    ):
        points = [point for which, side in (("A", a), ("B", b)) for point in _points(side, which, score, metric)]
        spec = charts.tradeoff(points, score_name(score), axis, sizes=metric == "bytes")
        if spec is not None:
            found.append(Figure(name, heading, spec))
    return found


def _points(side: Side, which: str, score: str, metric: str) -> list[Point]:
    found: list[Point] = []
    for artifact in dict.fromkeys(row.artifact for row in side.rows):
        x, y = side.value(artifact, metric), side.value(artifact, score)
        if x and y is not None:
            row = next(r for r in side.rows if (r.artifact, r.metric) == (artifact, metric))
            about = f"{which}: {artifact}, {percent(y)} % {score_name(score)}, {_text(row, x)}"
            found.append(Point(artifact, f"{which}: {side.name}", x, y, about, artifact))
    return found


def _text(row: Row, value: float) -> str:
    if row.unit == "bytes":
        return size_text(value)
    if row.unit == "%":
        return f"{percent(value)} %"
    return f"{ms_text(value)} ms" if row.unit == "ms" else f"{value:,.4g} {row.unit}".strip()


def _difference(a: str, b: str) -> list[str]:
    return list(difflib.unified_diff(a.splitlines(), b.splitlines(), "A", "B", n=1, lineterm="")) if a and b else []


def as_json(found: Sequence[Change]) -> list[dict[str, Any]]:
    """Return the lines of a comparison as JSON values."""
    kept = ("artifact", "metric", "a", "b", "change", "good")
    return [{name: value for name, value in vars(line).items() if name in kept} for line in found]
