"""The verdict of a run in plain words: what was gained, what helped, what did not. Every word comes from a row.

Only like is compared with like: a simulated INT8 network in PyTorch says nothing about speed or bytes, so an INT8 file
is held against the FP32 file of the same network in the same engine where there is one.
"""

from dataclasses import dataclass

from edgepress.measure.history import Run, Step
from edgepress.measure.tables import main_latency, main_score, ms_text, percent, score_name, size_text, times_text

SAME_SPEED = 1.05
"""Factors of time or size nearer to 1 than this are not a difference."""

SAME_SCORE = 0.05
"""Scores closer than this many points are not a difference."""


@dataclass(frozen=True)
class Tile:
    """One figure in large type: what it is, its value with unit, and what it was before."""

    name: str
    value: str
    unit: str
    change: str
    good: bool | None


@dataclass(frozen=True)
class Summary:
    """`sentence` first, then details. Names of artifacts stand between backticks."""

    sentence: str
    conditions: str
    tiles: tuple[Tile, ...]
    helped: tuple[str, ...]
    did_not_help: tuple[str, ...]
    result: str


@dataclass(frozen=True)
class Metrics:
    """The metrics that this run is judged by, empty where none was measured."""

    score: str
    latency: str


def summarize(run: Run) -> Summary:
    """Return the verdict of `run`, however much of it was measured."""
    metrics = Metrics(main_score(run.rows), main_latency(run.rows))
    result = _result(run, metrics)
    if result is None:
        return Summary("Nothing was measured in this run yet.", "", (), (), (), "")
    first = next((s for s in run.steps if s is not result and s.value(metrics.score) is not None), None)
    helped, did_not = _judge(run, metrics)
    return Summary(
        _sentence(result, first, metrics),
        _conditions(result, first, metrics),
        tuple(_tiles(result, first, metrics)),
        tuple(helped),
        tuple(did_not),
        result.label,
    )


def _result(run: Run, metrics: Metrics) -> Step | None:
    """The artifact the run was made for: its last exported one with a score, else its last one with rows."""
    measured = [step for step in run.steps if step.rows]
    scored = [step for step in measured if step.exported and step.value(metrics.score) is not None]
    exported = [step for step in measured if step.exported]
    return (scored or exported or measured or [None])[-1]


def _sentence(result: Step, first: Step | None, metrics: Metrics) -> str:
    score = result.value(metrics.score)
    unknown = f"`{result.label}` was made; its quality was not measured."
    if first is None:
        facts = [f"reaches {percent(score)} % {score_name(metrics.score)}"] if score is not None else []
        facts += [f"takes {size_text(size)}"] if (size := result.value("bytes")) is not None else []
        facts += [f"needs {ms_text(ms)} ms"] if (ms := result.value(metrics.latency)) is not None else []
        return f"`{result.label}` {_join(facts)}." if facts else unknown
    facts: list[str] = []
    smaller, faster = _ratio(first, result, "bytes"), _ratio(first, result, metrics.latency)
    facts += [_factor(smaller, "smaller", "larger", "as large")] if smaller else []
    facts += [_factor(faster, "faster", "slower", "as fast")] if faster else []
    lead = f"`{result.label}` is {_join(facts)} than `{first.label}`" if facts else f"`{result.label}`"
    lead = lead.replace("as large than", "as large as").replace("as fast than", "as fast as")
    drop = _points(first, result, metrics)
    if score is None or drop is None:
        return f"{lead}." if facts else unknown
    name = score_name(metrics.score)
    change = "the same" if abs(drop) < SAME_SCORE else f"{abs(drop):.1f} points {'more' if drop > 0 else 'less'}"
    if not facts:
        than = "as" if change == "the same" else "than"
        return f"{lead} reaches {percent(score)} % {name}, {change} {than} `{first.label}`."
    against = f" against {percent(first.value(metrics.score))} %"
    return f"{lead}, at {change} {name} ({percent(score)} %{against})."


def _conditions(result: Step, first: Step | None, metrics: Metrics) -> str:
    row = next((row for row in result.rows if row.metric == metrics.latency), None)
    told: list[str] = []
    if row is not None:
        threads = f"{row.threads} thread{'' if row.threads == 1 else 's'}"
        told.append(f"latency: {threads}, batch {row.batch}, {row.runtime}")
        if first is not None and first.runtime != row.runtime and first.value(metrics.latency) is not None:
            told[-1] += f" against {'eager PyTorch' if first.runtime == 'torch' else first.runtime}"
    scored = next((row for row in result.rows if row.metric == metrics.score), None)
    if scored is not None:
        told.append(f"{score_name(metrics.score)}: {scored.n:,} images of the {scored.split or 'test'} split")
    machine = next((row.machine for row in result.rows if row.machine), "")
    told += [f"on {machine}"] if machine else []
    return "; ".join(told)


def _tiles(result: Step, first: Step | None, metrics: Metrics) -> list[Tile]:
    tiles: list[Tile] = []
    score, size, ms = result.value(metrics.score), result.value("bytes"), result.value(metrics.latency)
    if score is not None:
        points = _points(first, result, metrics) if first else None
        change = "" if points is None or first is None else f"{points:+.2f} points against {first.label}"
        good = None if points is None or abs(points) < SAME_SCORE else points > 0
        tiles.append(Tile(score_name(metrics.score), percent(score), "%", change.replace("-", "\u2212", 1), good))
    for name, value, text, metric, words in (
        ("size", size, size_text(size), "bytes", ("smaller", "larger", "as large")),
        ("latency", ms, f"{ms_text(ms)} ms", metrics.latency, ("faster", "slower", "as fast")),
    ):
        if value is None:
            continue
        factor = _ratio(first, result, metric) if first else None
        than = f" as {first.label}" if first and factor and _same(factor) else f" than {first.label}" if first else ""
        figure, unit = text.split(" ")
        change = _factor(factor, *words) + than if factor else ""
        tiles.append(Tile(name, figure, unit, change, None if not factor or _same(factor) else factor > 1))
    agreed = result.value("agreement_parent")
    if agreed is not None:
        tiles.append(Tile("agreement", percent(agreed), "%", "same answer as the network it was made from", None))
    return tiles


def _judge(run: Run, metrics: Metrics) -> tuple[list[str], list[str]]:
    helped: list[str] = []
    did_not: list[str] = []
    for step in run.steps:
        other, why = _reference(run, step)
        shipped = any(s.exported and s.source == step.label for s in run.steps)
        if other is None or (step.simulated and shipped):  # the file that came of it is judged
            continue
        good, bad = _compare(other, step, metrics)
        about = f"`{step.label}` against `{other.label}`{why}: "
        if good:
            helped.append(about + _join([*good, *bad], "; ") + ".")
        elif bad:
            did_not.append(about + _join(bad, "; ") + ".")
        # A step that helps in one way may still be the slower one: that must not drown in the gains.
        slower = [text for text in bad if "slower" in text or "larger" in text]
        if good and slower:
            did_not.append(about + _join(slower, "; ") + ".")
    return helped, did_not


def _reference(run: Run, step: Step) -> tuple[Step | None, str]:
    """Return the step that `step` is fairly held against, and a word on why."""
    if step.stage == "distill":
        model = step.settings.get("model")
        alone = [s for s in run.steps if s.stage == "train" and model and s.settings.get("model") == model]
        if alone:
            return alone[-1], ", the same network trained alone"
    source = run.step(step.source)
    if step.exported and step.precision != "fp32":
        ancestors: list[str] = []
        at = source
        while at is not None and at.label not in ancestors:
            ancestors.append(at.label)
            at = run.step(at.source)
        twins = [
            s
            for s in run.steps
            if s.exported and s.precision == "fp32" and s.runtime == step.runtime
            and (s.source in ancestors or s.label in ancestors)
        ]  # fmt: skip
        if twins:
            return twins[-1], ", the FP32 file"
        whole = next((run.step(label) for label in ancestors if _is_fp32(run.step(label))), None)
        return (whole, ", before quantization") if whole is not None else (source, "")
    return source, ""


def _is_fp32(step: Step | None) -> bool:
    return step is not None and step.precision == "fp32"


def _compare(old: Step, new: Step, metrics: Metrics) -> tuple[list[str], list[str]]:
    """Return what is better and what is worse in `new`, in words."""
    good: list[str] = []
    bad: list[str] = []
    if not new.simulated:
        factors = [("bytes", ("smaller", "larger"))]
        if not old.simulated:
            factors.append((metrics.latency, ("faster", "slower")))
        if not new.exported:
            factors.append(("macs", ("fewer MACs", "more MACs")))
        for metric, (better, worse) in factors:
            factor = _ratio(old, new, metric)
            if factor and not _same(factor):
                moved = metric == metrics.latency and new.runtime != old.runtime
                where = f" ({new.runtime} for {old.runtime})" if moved else ""
                (good if factor > 1 else bad).append(_factor(factor, better, worse, "") + where)
    points = _points(old, new, metrics)
    if points is not None and abs(points) >= SAME_SCORE:
        (good if points > 0 else bad).append(f"{points:+.2f} points".replace("-", "\u2212"))
    return good, bad


def _ratio(old: Step, new: Step, metric: str) -> float | None:
    """Return old / new, above 1 where `new` is smaller or faster; None where either was not measured."""
    before, after = old.value(metric), new.value(metric)
    return before / after if before and after else None


def _points(old: Step, new: Step, metrics: Metrics) -> float | None:
    before, after = old.value(metrics.score), new.value(metrics.score)
    return None if before is None or after is None else after - before


def _same(factor: float) -> bool:
    return 1 / SAME_SPEED < factor < SAME_SPEED


def _factor(factor: float, better: str, worse: str, same: str) -> str:
    if same and _same(factor):
        return same
    return f"{times_text(factor)} {better}" if factor >= 1 else f"{times_text(1 / factor)} {worse}"


def _join(parts: list[str], comma: str = ", ") -> str:
    if len(parts) < 2 or comma != ", ":
        return comma.join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]
