"""The report of a run: one HTML page that opens offline, the same in Markdown, and its rows as CSV."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepress.core.files import write_bytes
from edgepress.measure import charts
from edgepress.measure.details import errors, layer_lines
from edgepress.measure.findings import Table, findings
from edgepress.measure.history import Run, Step, number, read_run
from edgepress.measure.render import Figure, render
from edgepress.measure.rows import Row, to_csv
from edgepress.measure.summary import Metrics, Summary, summarize
from edgepress.measure.tables import (
    escape_markdown,
    main_latency,
    main_score,
    ms_text,
    percent,
    score_name,
    size_text,
    times_text,
    to_markdown,
)
from edgepress.measure.tracked import Tracked, tracked

DETAILS = "details.json"
"""Beside the report: what was found out about the file it is about."""


@dataclass(frozen=True)
class StageLine:
    """One line of the stage table, ready to print; `size_share` and `latency_share` are bar lengths in percent."""

    label: str
    made: str
    runs: str
    score: str
    size: str
    size_share: float
    latency: str
    latency_share: float
    speedup: str
    agreement: str
    seconds: str
    result: bool


@dataclass(frozen=True)
class TrainingLine:
    """One line of the training table."""

    label: str
    epochs: int
    best: str
    last: str
    loss: str
    throughput: str


def write_report(run_folder: Path) -> Path:
    """Write `report.html`, `report.md` and `rows.csv` into the run folder `runs/recipe-<name>`; return the page's path.

    Stages without rows or logs leave gaps. Raises `DataError` where the folder holds no run or a damaged one, and
    `MissingExtraError` on the base install, before anything is written.
    """
    run = read_run(run_folder)
    summary = summarize(run)
    seen = tracked(run_folder, [step.label for step in run.steps])
    page = render_html(run, summary, read_details(run_folder, run, summary.result), seen)
    write_bytes(run_folder / "rows.csv", to_csv(run.rows).encode("utf-8", "replace"))
    write_bytes(run_folder / "report.md", render_markdown(run, summary).encode("utf-8", "replace"))
    write_bytes(run_folder / "report.html", page.encode("utf-8", "replace"))
    return run_folder / "report.html"


def read_details(run_folder: Path, run: Run, result: str) -> dict[str, Any]:
    """Return what `details.examine` found out about the stage `result`; empty where it was not asked, or about another
    artifact."""
    path, step = run_folder / DETAILS, run.step(result)
    try:
        found = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError:
        return {}  # the report shows what there is
    return found if step is not None and isinstance(found, dict) and found.get("key") == step.key else {}


def render_html(
    run: Run, summary: Summary, details: Mapping[str, Any] | None = None, seen: Sequence[Tracked] = ()
) -> str:
    """Return the page of `run`; `details` are those of its result, `seen` what was tracked of its trainings."""
    metrics = Metrics(main_score(run.rows), main_latency(run.rows))
    found = details or {}
    return render(
        "report.html.jinja",
        tuple(_figures(run, metrics)),
        run=run,
        summary=summary,
        score=score_name(metrics.score) or "score",
        stages=stage_lines(run, metrics, summary.result),
        training=training_lines(run, metrics),
        tracked=seen,
        findings=findings(run),
        recipe=as_yaml(run.recipe),
        csv=to_csv(run.rows),
        cell=_value,
        detail_of=summary.result,
        layers=layer_lines(
            found.get("layers", []), found.get("files", []), found.get("names", []), sensitivity_of(run, summary.result)
        ),
        errors=errors(found.get("wrong", {}), found.get("labels", []), found.get("pictures", {})),
        judged=found.get("images", 0),
    )


def sensitivity_of(run: Run, result: str) -> dict[str, float]:
    """Return how much quantizing each layer alone costs, by module path, as the ladder above `result` noted it; empty
    where none did."""
    step, seen = run.step(result), list[str]()
    while step is not None and step.label not in seen:
        seen.append(step.label)
        ladder = step.notes.get("ladder")
        noted = ladder.get("sensitivity") if isinstance(ladder, Mapping) else None
        if isinstance(noted, Mapping):
            return {str(name): value for name, loss in noted.items() if (value := number(loss)) is not None}
        step = run.step(step.source)
    return {}


def render_markdown(run: Run, summary: Summary) -> str:
    """Return the report of `run` in Markdown."""
    parts = [f"# {escape_markdown(run.name)}\n\n{summary.sentence}\n"]
    if summary.conditions:
        parts.append(f"_{escape_markdown(summary.conditions)}_\n")
    if run.rows:
        parts.append(to_markdown(run.rows))
    for title, items in (("What helped", summary.helped), ("What did not help", summary.did_not_help)):
        if items:
            parts.append(f"**{title}**\n\n" + "\n".join(f"- {item}" for item in items) + "\n")
    parts += [_markdown_table(table) for table in findings(run)]
    recipe = as_yaml(run.recipe)
    if recipe:
        parts.append(f"## Recipe\n\n{_fenced(recipe, 'yaml')}")
    if run.environment:
        lines = [f"- {escape_markdown(name)}: {escape_markdown(text)}" for name, text in run.environment.items()]
        parts.append("## Environment\n\n" + "\n".join(lines) + "\n")
    if run.command:
        parts.append(f"Made on {run.date} by:\n\n{_fenced(run.command, 'sh')}")
    return "\n".join(parts)


def _markdown_table(table: Table) -> str:
    lines = [table.columns, table.columns, *table.lines]
    cells = ["| " + " | ".join(escape_markdown(cell) for cell in line) + " |" for line in lines]
    cells[1] = "|" + "---|" * len(table.columns)
    remarks = "".join(f"\n- {escape_markdown(remark)}" for remark in table.remarks)
    return f"## {escape_markdown(table.title)}\n\n" + "\n".join(cells) + (f"\n{remarks}" if remarks else "") + "\n"


def stage_lines(run: Run, metrics: Metrics, result: str = "") -> list[StageLine]:
    """Return the stage table: what each stage made, and what that scores, weighs and takes."""
    real = [step for step in run.steps if not step.simulated]
    sizes = {step.label: 0.0 for step in run.steps} | {step.label: step.value("bytes") or 0.0 for step in real}
    times = {step.label: 0.0 for step in run.steps} | {step.label: step.value(metrics.latency) or 0.0 for step in real}
    first = next((ms for ms in times.values() if ms), 0.0)
    return [
        StageLine(
            label=step.label,
            made=f"{step.stage} of {step.source}" if step.source else step.stage,
            runs=f"{step.runtime} {step.precision}".strip() + (", simulated" if step.simulated else "") or "-",
            score=percent(step.value(metrics.score)),
            size=size_text(sizes[step.label] or None),
            size_share=_share(sizes[step.label], sizes.values()),
            latency=ms_text(times[step.label] or None),
            latency_share=_share(times[step.label], times.values()),
            speedup=times_text(first / times[step.label] if times[step.label] else None),
            agreement=percent(step.value("agreement_parent")),
            seconds=_duration(step.seconds),
            result=step.label == result,
        )
        for step in run.steps
    ]


def training_lines(run: Run, metrics: Metrics) -> list[TrainingLine]:
    """Return one line per stage that trained, an alternative to its curves that can be read aloud."""
    name = metrics.score.removeprefix("val_")
    return [_training_line(step, name) for step in run.steps if step.epochs]


def _training_line(step: Step, name: str) -> TrainingLine:
    scores = [score for event in step.epochs if (score := number(charts.validation(event, name))) is not None]
    losses = [loss for event in step.epochs if (loss := number(event.get("loss"))) is not None]
    speeds = sorted(speed for event in step.epochs if (speed := number(event.get("images_per_second"))) is not None)
    return TrainingLine(
        label=step.label,
        epochs=len(step.epochs),
        best=percent(max(scores, default=None)),
        last=percent(scores[-1] if scores else None),
        loss=f"{losses[-1]:.4g}" if losses else "-",
        throughput=f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "-",
    )


def _figures(run: Run, metrics: Metrics) -> Iterable[Figure]:
    energy = next((r.metric for r in run.rows if r.metric.startswith("energy")), "energy")
    joules = "energy, mJ" + (" (estimate)" if energy.startswith("energy_estimate") else "")
    plots = (
        ("tradeoff-latency", "Accuracy against latency", metrics.latency, "latency, ms (log)"),
        ("tradeoff-bytes", "Accuracy against size", "bytes", "size (log)"),
        ("tradeoff-energy", "Accuracy against energy", energy, f"{joules} (log)"),
    )
    for name, title, metric, axis in plots:
        points = charts.points_of(run, metrics, metric)
        spec = charts.tradeoff(points, score_name(metrics.score), axis, sizes=metric == "bytes")
        if spec is not None:
            yield Figure(name, title, spec)
    for index, (title, spec) in enumerate(charts.curves(run, metrics).items()):
        yield Figure(f"curve-{index}", title[0].upper() + title[1:], spec)


def as_yaml(recipe: dict[str, Any]) -> str:
    """Return a recipe as YAML (as JSON where no YAML is installed), "" for none."""
    if not recipe:
        return ""
    try:
        import yaml
    except ImportError:
        return json.dumps(recipe, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


def _fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _share(value: float, values: Iterable[float]) -> float:
    return round(100 * value / max(max(values, default=0.0), 1e-12), 1)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _value(row: Row, value: float | None) -> str:
    """Return a figure of a row for the table of all rows."""
    if value is None:
        return ""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.2f}" if row.unit == "%" else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
