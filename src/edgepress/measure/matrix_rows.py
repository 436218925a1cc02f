"""A matrix as rows, as a table of 80 columns, and as JSON."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from edgepress.measure import environment
from edgepress.measure.matrix import Result, speedup
from edgepress.measure.rows import Better, Row
from edgepress.measure.tables import ms_text, percent, size_text, times_text

FACTS: tuple[tuple[str, str, str, Better], ...] = (
    # fact, metric, unit, which is better
    ("score", "", "%", "higher"),
    ("parity", "parity", "%", "higher"),
    ("agreement", "agreement_fp32", "%", "higher"),
    ("bytes", "bytes", "bytes", "lower"),
    ("load", "load", "ms", "lower"),
    ("first_prediction", "first_prediction", "ms", "lower"),
    ("peak_rss", "peak_rss", "MB", "lower"),
    ("pre_post_share", "pre_post_share", "%", "lower"),
    ("energy", "energy", "mJ", "lower"),
)
HEADINGS = ("runtime", "precision", "score", "size", "p50 ms", "p99", "img/s", "load", "RSS", "mJ", "x")
"""Of the table; load is in ms, RSS in MB, x is the speed against the first line."""


def rows(results: Sequence[Result], score: str, command: str) -> list[Row]:
    """Return all facts of the cells as rows. An artifact is called "student/openvino-bf16"; more than one thread or
    image shows in the metric's name ("latency_t2_b8"). An estimated energy is the metric `energy_estimate`."""
    found: list[Row] = []
    about: dict[str, Any] = {
        "versions": environment.versions(),
        "machine": environment.machine(),
        "commit": environment.commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": command,
    }
    for result in results:
        cell = result.cell
        name = f"{cell.artifact}/{cell.runtime}-{cell.precision}"
        suffix = (f"_t{cell.threads}" if cell.threads > 1 else "") + (f"_b{cell.batch}" if cell.batch > 1 else "")
        shape = {"runtime": cell.runtime, "precision": cell.precision, "threads": cell.threads, "batch": cell.batch}
        for fact, metric, unit, better in FACTS:
            if fact not in result.facts:
                continue
            metric = metric or score
            if fact == "energy" and result.estimated:
                metric = "energy_estimate"
            judged = fact in ("score", "parity", "agreement")
            more: dict[str, Any] = {**shape, **about}
            if judged:
                more |= {"n": int(result.facts["images"]), "split": "test"}
            found.append(Row(name, metric + suffix, result.facts[fact], unit, better, **more))
        timing = result.timing
        if timing is not None:
            more = {**shape, **about, "n": timing.n}
            p50, p99 = timing.ms(0.5), timing.ms(0.99)
            found += [
                Row(name, f"latency{suffix}", p50, "ms", "lower", p50=p50, p99=p99, **more),
                Row(name, f"latency_p90{suffix}", timing.ms(0.9), "ms", "lower", **more),
                Row(name, f"throughput{suffix}", timing.per_second(cell.batch), "images/s", "higher", **more),
                Row(name, f"latency_spread{suffix}", timing.spread, "%", "lower", **more),
            ]
    return found


def cells(results: Sequence[Result], first: Result | None) -> list[tuple[str, ...]]:
    """Return the lines of the table; `first` is what speed is compared with. "~" stands before an estimate and behind
    a speed that was measured while the machine was restless."""
    lines: list[tuple[str, ...]] = []
    for result in results:
        facts, timing = result.facts, result.timing
        if result.error:
            continue
        energy = f"{'~' if result.estimated else ''}{facts['energy']:.3g}" if "energy" in facts else "-"
        factor = speedup(first, result) if first is not None else None
        lines.append(
            (
                result.cell.runtime,
                result.cell.precision,
                percent(facts.get("score")),
                size_text(facts.get("bytes")),
                ms_text(timing.ms(0.5) if timing else None) + ("~" if result.restless else ""),
                ms_text(timing.ms(0.99) if timing else None),
                f"{timing.per_second(result.cell.batch):.0f}" if timing else "-",
                f"{facts['load']:.0f}" if "load" in facts else "-",
                f"{facts['peak_rss']:.0f}" if "peak_rss" in facts else "-",
                energy,
                times_text(factor),
            )
        )
    return lines


def plain(result: Result, first: Result | None) -> dict[str, Any]:
    """Return a cell as JSON values."""
    cell, timing = result.cell, result.timing
    found: dict[str, Any] = {
        "bundle": str(cell.folder) if cell.folder else "",
        "artifact": cell.artifact,
        "runtime": cell.runtime,
        "precision": cell.precision,
        "threads": cell.threads,
        "batch": cell.batch,
        "error": result.error,
        **{name: value for name, value in result.facts.items() if name not in ("load", "first_prediction", "peak_rss")},
        "energy_source": result.energy_source,
        "layers": result.layers,
    }
    for fact, name in (("load", "load_ms"), ("first_prediction", "first_prediction_ms"), ("peak_rss", "peak_rss_mb")):
        found[name] = result.facts.get(fact)
    if timing is not None:
        factor = speedup(first, result) if first is not None else None
        ratios = [speedup_of(a, b) for a, b in zip(first.turns, result.turns, strict=False) if a and b] if first else []
        found |= {
            "n": timing.n,
            "latency_ms": {"p50": timing.ms(0.5), "p90": timing.ms(0.9), "p99": timing.ms(0.99)},
            "spread_percent": timing.spread,
            "images_per_second": timing.per_second(cell.batch),
            "speedup": factor,
            "speedup_range": [min(ratios), max(ratios)] if ratios else None,
        }
    return found


def speedup_of(before: list[float], after: list[float]) -> float:
    """Return the ratio of the medians of two turns."""
    return sorted(before)[len(before) // 2] / sorted(after)[len(after) // 2]
