"""`edgepress bench`: how fast bundles are on this machine, side by side."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import note, print_json, show_table

if TYPE_CHECKING:
    from edgepress.core.artifact import Program

SECTION = "Bundles"
TURNS = 10
"""In how many turns the bundles are timed: what disturbs the machine for a while disturbs all of them."""


@dataclass
class Candidate:
    """A bundle under measurement: the timed calls of every turn in milliseconds, and fresh starts of a process."""

    name: str
    folder: Path
    program: "Program"
    turns: list[list[float]] = field(default_factory=list[list[float]])
    starts: list[dict[str, float]] = field(default_factory=list[dict[str, float]])


@click.command()
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of a prediction.")
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Images of a prediction.")
@click.option("--calls", type=click.IntRange(30), default=300, show_default=True, help="Timed predictions of each.")
@runs_option
@json_option
def command(bundles: tuple[str, ...], threads: int, batch: int, calls: int, runs: Path, as_json: bool) -> None:
    """Measure speed, start and memory of bundles on this machine.

    Several bundles are timed in turns, and compared with the first. Start and memory are those of a fresh process.
    """
    from edgepress.cli.progress import TerminalProgress
    from edgepress.cli.targets import load_program
    from edgepress.measure import environment
    from edgepress.measure.timing import WIDE

    programs = [load_program(name, runs) for name in bundles]
    candidates = [Candidate(name, folder, program) for name, (program, folder) in zip(bundles, programs, strict=True)]
    with TerminalProgress() as progress:
        pinned = time_in_turns(candidates, threads, batch, calls, progress)
        for _ in progress.track(_starts(candidates, threads), 3 * len(candidates), "fresh processes"):
            pass
    found = [_figures(one, candidates[0], batch) for one in candidates]
    if as_json:
        about = {"machine": environment.machine(), "versions": environment.versions(), "pinned": pinned}
        print_json({"threads": threads, "batch": batch, "calls": calls, **about, "bundles": found})
        return
    _show(found)
    images = "" if batch == 1 else f" of {batch} images"
    note(f"\n{threads} thread{'s' * (threads > 1)}, {calls} calls{images}; {environment.machine()}")
    if not pinned:
        note("the threads could not be pinned to physical cores, so figures vary more")
    if restless := [one["bundle"] for one in found if one["spread_percent"] > WIDE]:
        note(f"the machine was restless (p10 to p90 above {WIDE:.0f} % of the median): {', '.join(restless)}")


def time_in_turns(candidates: list[Candidate], threads: int, batch: int, calls: int, progress: Any) -> bool:
    """Time all candidates, in turns; return whether they were pinned to physical cores."""
    import numpy as np

    from edgepress.measure.timing import pinned, time_calls
    from edgepress.runtime.predictor import EnginePredictor
    from edgepress.runtime.preprocess import to_input

    with pinned(threads) as cpus:
        ready: list[Any] = []
        for one in candidates:
            spec = one.program.signature.input
            shape = (batch, spec.height, spec.width, spec.channels)
            images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            ready.append((EnginePredictor(one.program, threads).run, np.ascontiguousarray(to_input(images, spec))))
        for turn in progress.track(range(TURNS), TURNS, "timing"):
            # Every other turn runs backwards: none is always the first after a pause.
            order = list(zip(candidates, ready, strict=True))
            for one, (run, inputs) in order if turn % 2 == 0 else reversed(order):
                timing = time_calls(lambda run=run, inputs=inputs: run(inputs), -(-calls // TURNS), 5, 10.0 / TURNS)
                one.turns.append([float(s) * 1e3 for s in timing.seconds])
    return bool(cpus)


def _starts(candidates: list[Candidate], threads: int) -> Any:
    from edgepress.measure.load import fresh

    for _ in range(3):
        for one in candidates:
            one.starts.append(fresh(one.folder, threads))
            yield one


def _figures(one: Candidate, first: Candidate, batch: int) -> dict[str, Any]:
    import numpy as np

    calls = np.concatenate([np.array(turn) for turn in one.turns])
    p10, p50, p90, p99 = (float(np.quantile(calls, q)) for q in (0.1, 0.5, 0.9, 0.99))
    ratios = [np.median(a) / np.median(b) for a, b in zip(first.turns, one.turns, strict=True)]
    starts = {
        name: float(np.median([s[name] for s in one.starts])) for name in ("load", "first_prediction", "peak_rss")
    }
    return {
        "bundle": one.name,
        "runtime": one.program.runtime,
        "precision": one.program.precision,
        "bytes": sum(len(data) for data in one.program.files.values()),
        "n": len(calls),
        "latency_ms": {"p50": p50, "p90": p90, "p99": p99},
        "spread_percent": (p90 - p10) / p50 * 100,
        "images_per_second": batch * len(calls) / float(calls.sum()) * 1e3,
        "load_ms": starts["load"],
        "first_prediction_ms": starts["first_prediction"],
        "peak_rss_mb": starts["peak_rss"],
        "speedup": float(np.median(ratios)),
        "speedup_range": [float(min(ratios)), float(max(ratios))],
    }


def _show(found: list[dict[str, Any]]) -> None:
    from edgepress.measure.tables import ms_text, size_text, times_text

    several = len(found) > 1
    show_table(
        ("bundle", "size", "p50 ms", "p90", "p99", "img/s", "load ms", "RSS MB", *(["speedup"] if several else [])),
        [
            (
                one["bundle"],
                size_text(one["bytes"]),
                *(ms_text(one["latency_ms"][q]) for q in ("p50", "p90", "p99")),
                f"{one['images_per_second']:,.0f}",
                f"{one['load_ms']:.0f}",
                f"{one['peak_rss_mb']:.0f}",
                *([times_text(one["speedup"])] if several else []),
            )
            for one in found
        ],
        gap=1,
        right=("size", "p50 ms", "p90", "p99", "img/s", "load ms", "RSS MB", "speedup"),
    )
