"""A matrix as rows, as a table of 80 columns, and as JSON."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from edgepress.measure import environment
from edgepress.measure.matrix import Result, ratios, speedup
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

LESS = ("p99", "load")
"""Left out where the name of the network takes their room."""

WIDEST = 15
"""Letters of such a name."""


def rows(results: Sequence[Result], score: str, command: str, split: str, **where: str) -> list[Row]:
    """Return all facts of the cells as rows. An artifact is called "student/openvino-bf16"; more than one thread or
    image shows in the metric's name ("latency_t2_b8"). An estimated energy is the metric `energy_estimate`. `split` is
    what was scored, `where` are the fields `machine` and `versions` of another machine."""
    found: list[Row] = []
    about: dict[str, Any] = {
        "versions": environment.versions(),
        "machine": environment.machine(),
        "commit": environment.commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": command,
        **where,
    }
    for result in results:
        cell = result.cell
        name = f"{cell.artifact}/{cell.runtime}-{cell.precision}"
        suffix = (f"_t{cell.threads}" if cell.threads > 1 else "") + (f"_b{cell.batch}" if cell.batch > 1 else "")
        shape = {"runtime": cell.runtime, "precision": cell.precision, "threads": cell.threads, "batch": cell.batch,
                 "device": cell.device}  # fmt: skip
        for fact, metric, unit, better in FACTS:
            if fact not in result.facts:
                continue
            metric = metric or score
            if fact == "energy" and result.estimated:
                metric = "energy_estimate"
            judged = fact in ("score", "parity", "agreement")
            more: dict[str, Any] = {**shape, **about}
            if judged:
                more |= {"n": int(result.facts["images"]), "split": split}
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


def table(results: Sequence[Result], first: Result | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and lines of a table of 80 columns. Where there are several networks the first column tells them
    apart, by what differs in their names, and `LESS` makes room for it."""
    lines = cells(results, first)
    names = [result.cell.artifact for result in results if not result.error]
    if len(set(names)) < 2:
        return HEADINGS, lines
    kept = [place for place, heading in enumerate(HEADINGS) if heading not in LESS]
    short = dict(zip(dict.fromkeys(names), _cut(distinct(list(dict.fromkeys(names)))), strict=True))
    wide = [(short[name], *(line[place] for place in kept)) for name, line in zip(names, lines, strict=True)]
    return ("bundle", *(HEADINGS[place] for place in kept)), wide


def empty(results: Sequence[Result]) -> dict[str, str]:
    """Return by reason which cells are empty: {"TensorRT is not installed": "tensorrt fp32, fp16"}."""
    found: dict[str, dict[str, list[str]]] = {}
    for result in results:
        if result.error:
            kinds = found.setdefault(result.error, {}).setdefault(result.cell.runtime, [])
            kinds += [result.cell.precision] if result.cell.precision not in kinds else []
    return {why: "; ".join(f"{name} {', '.join(kinds)}" for name, kinds in of.items()) for why, of in found.items()}


def distinct(names: Sequence[str]) -> list[str]:
    """Return `names` without the words (up to "-", "_", "/") that all of them begin or end with."""
    words = [re.split(r"(?<=[-_/])", name) for name in names]
    most = min(map(len, words)) - 1
    front = next((n for n in range(most) if len({tuple(w[: n + 1]) for w in words}) > 1), max(most, 0))
    kept = [w[front:] for w in words]
    most = min(map(len, kept)) - 1
    back = next((n for n in range(most) if len({tuple(w[-n - 1 :]) for w in kept}) > 1), max(most, 0))
    short = ["".join(w[: len(w) - back]).rstrip("-_/") for w in kept]
    return short if len(set(short)) == len(short) and all(short) else list(names)


def _cut(names: Sequence[str]) -> list[str]:
    """Return `names` of at most `WIDEST` letters, as long as they still differ."""
    cut = [name if len(name) <= WIDEST else name[: WIDEST - 1] + "\u2026" for name in names]
    return cut if len(set(cut)) == len(cut) else list(names)


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
        found_ratios = ratios(first, result) if first is not None else []
        found |= {
            "n": timing.n,
            "latency_ms": {"p50": timing.ms(0.5), "p90": timing.ms(0.9), "p99": timing.ms(0.99)},
            "spread_percent": timing.spread,
            "images_per_second": timing.per_second(cell.batch),
            "speedup": factor,
            "speedup_range": [min(found_ratios), max(found_ratios)] if found_ratios else None,
        }
    return found
