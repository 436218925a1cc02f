"""`edgepress bench`: what a network costs here on every engine and precision, and which file to ship."""

import hashlib
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.given_data import METAVAR
from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import note, print_json, show_table

if TYPE_CHECKING:
    from edgepress.measure.bench import Bench
    from edgepress.measure.matrix import Result
    from edgepress.measure.verdict import Verdict

SECTION = "Bundles"


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    return ("all",) if "all" in names else names


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in value.split(",") if part.strip()))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers from 1, such as 1 or 1,8")
    return numbers


def _channels(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in value.split(",")) if value is not None else None
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers, one a channel, such as 0.49,0.48,0.45") from None


def _most(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not value >= 0:
        raise click.BadParameter(f"{value:g} is no number from 0 (inf: as much as you like)")
    return None if value == float("inf") else value


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="MODEL_OR_BUNDLE...")
@click.option("--runtimes", callback=_names, default="", metavar="all|A,B", help="Engines; default: the bundle's own.")
@click.option("--precisions", callback=_names, default="", metavar="all|A,B", help="fp32, bf16, int8 ... Default: all.")
@click.option("--data", metavar=METAVAR, help="Score on this data; a model needs it for its files.")
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True, help="What decides.")
@click.option("--images", type=click.IntRange(0), default=1000, show_default=True, help="Images of it (0: all).")
@click.option("--weights", metavar="FILE", help="Checkpoint of a network given by name; 'pretrained' fetches one.")
@click.option("--mean", callback=_channels, metavar="A,B,C", help="What that network was trained with, in 0..1.")
@click.option("--std", callback=_channels, metavar="A,B,C")
@click.option("--threads", callback=_numbers, default="1", show_default=True, metavar="1,2", help="Threads of a call.")
@click.option("--batch", callback=_numbers, default="1", show_default=True, metavar="1,8", help="Images of a call.")
@click.option("--calls", type=click.IntRange(30), default=300, show_default=True, help="Timed calls of each cell.")
@click.option("--limit", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds a cell may hang.")
@click.option("--tdp", type=click.FloatRange(0, min_open=True), help="Watts, to estimate energy that nothing counts.")
@click.option("--drop", type=float, callback=_most, default=1.0, show_default=True, help="Budget: points, or inf.")
@click.option("--ms", type=float, callback=_most, help="Budget: milliseconds.")
@click.option("--mb", type=float, callback=_most, help="Budget: megabytes of the file.")
@click.option("--mj", type=float, callback=_most, help="Budget: millijoules of a call.")
@click.option("--on", default="", metavar="USER@BOARD", help="Measure on another machine, by ssh.")
@click.option("--python", default="", metavar="PATH", help="Its Python, with numpy and engines; default: install them.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: in --runs.")
@runs_option
@json_option
def command(
    what: tuple[str, ...], data: str | None, split: str, images: int, weights: str | None,
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, drop: float | None, ms: float | None,
    mb: float | None, mj: float | None, on: str, out: Path | None, runs: Path, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure files of a network on every engine, and say which to ship.

    Name a bundle, a stage of a run (demo/student), a saved model, or a network (cifar_resnet20 --weights FILE). Of a
    model, files are made for the engines that --runtimes names, all by default.

    Each cell runs in its own process, so that a crash empties one cell only; all are timed in turns. What was measured
    stays when you press Ctrl-C, and the same command goes on.
    """
    from edgepress.cli import benching
    from edgepress.cli.given_data import spelled_out
    from edgepress.cli.progress import TerminalProgress
    from edgepress.measure import matrix
    from edgepress.measure.bench import Bench, save_bench
    from edgepress.measure.final import run_final
    from edgepress.measure.prepare import open_store
    from edgepress.measure.verdict import Budget

    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std belong together: give both or none")
    if options["python"] and not on:
        raise click.UsageError("--python is the Python of another machine: say which one, --on USER@BOARD")
    wanted, source = benching.spelled_out(options, data), benching.Source(weights, mean, std)
    settings = matrix.Settings(calls=options["calls"], limit=options["limit"], tdp=options["tdp"] or 0.0)
    given = benching.look_up(what, runs)
    benching.check(given, source, data, wanted)
    plan = benching.plan(given, source, data, split, images, wanted, settings, on)
    store = out or runs / f"bench-{hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]}"
    open_store(store, plan)
    bench = Bench.begun(", ".join(one.name for one in given), shlex.join(["edgepress", *sys.argv[1:]]), data or "",
                        Budget(drop, ms, mb, mj), on, split)  # fmt: skip
    with TerminalProgress() as progress:
        try:
            field = benching.prepare(given, source, data, split, images, wanted, store, runs, progress)
            bench = bench.of(field.cells, field.score, field.labels)
            if on:
                from edgepress.measure.remote import run_there

                run_there(on, bench, field.judge, settings, store, progress, bench.environment, options["python"])
            else:
                matrix.run(field.cells, field.judge, settings, store, progress)
                run_final(field.cells, bench.budget, settings, store, progress)
        except KeyboardInterrupt:
            progress.say(f"stopped; the same command goes on from {store}")
            if not bench.cells:
                raise
    save_bench(bench, store)
    _tell(bench, store, _report(store), as_json, spelled_out(data, given[0].folder) if data else "")


def _report(store: Path) -> Path | None:
    """Write the page of a matrix; return None where what it needs is not installed."""
    from edgepress.core.errors import MissingExtraError
    from edgepress.measure.bench_report import write_bench_report

    try:
        return write_bench_report(store)
    except MissingExtraError as error:
        note(f"no report: {error}")
        return None


def _tell(bench: "Bench", store: Path, page: Path | None, as_json: bool, data: str) -> None:
    """Print the matrix and its verdicts, one for each number of threads and images; `data` is for other commands."""
    from edgepress.measure.matrix_rows import empty, plain

    results = bench.results(store)
    blocks, verdicts = bench.blocks(results), bench.verdicts(results)
    if as_json:
        found = [plain(r, _first(blocks[r.cell.threads, r.cell.batch])) for r in results]
        said = [{"threads": a[0], "batch": a[1], **_verdict_plain(verdict)} for a, verdict in verdicts.items()]
        where = {"store": str(store), "report": str(page) if page else ""}
        machine = {name: bench.environment.get(name, "") for name in ("machine", "versions")}
        print_json({**machine, **where, "cells": found, "verdicts": said})
        return
    for about, block in blocks.items():
        _show(about, block, verdicts[about], len(blocks) > 1)
    for reason, names in empty(results).items():
        note(f"empty: {names}: {reason}")
    note(f"\n{bench.environment.get('machine', '')}; rows in {store / 'rows.jsonl'}")
    for command in _untouched(bench, verdicts, data):
        note(f"the test split has decided nothing yet: {command}")
    if page is not None:
        note(f"report: {page}")


def _untouched(bench: "Bench", verdicts: "dict[tuple[int, int], Verdict]", data: str) -> list[str]:
    """Return the commands that score the chosen files on images that had no part in the choice."""
    from edgepress.measure.cell import EAGER

    if not data or bench.split == "test":
        return []
    chosen = [verdict.chosen.cell for verdict in verdicts.values() if verdict.chosen is not None]
    folders = dict.fromkeys(str(cell.folder) for cell in chosen if cell.runtime != EAGER)
    return [shlex.join(["edgepress", "eval", folder, "--data", data]) for folder in folders]


def _first(block: "list[Result]") -> "Result | None":
    return next((result for result in block if result.turns), None)


def _verdict_plain(verdict: "Verdict") -> dict[str, Any]:
    chosen = verdict.chosen
    bundle = str(chosen.cell.folder) if chosen else ""
    return {"ship": bundle, "sentences": list(verdict.sentences), "did_not_help": list(verdict.did_not_help)}


def _show(about: tuple[int, int], block: "list[Result]", verdict: "Verdict", several: bool) -> None:
    from edgepress.measure.matrix_rows import table

    if several:
        note(f"\n{about[0]} thread{'s' * (about[0] > 1)}, {about[1]} image{'s' * (about[1] > 1)} a call")
    headings, lines = table(block, _first(block))
    words = sum(1 for name in headings if name in ("bundle", "runtime", "precision"))
    show_table(headings, lines, gap=1, right=headings[words:])
    for sentence in verdict.sentences:
        click.echo(sentence)
    for sentence in verdict.did_not_help:
        click.echo(f"did not help: {sentence}")
    if any(result.restless for result in block):
        note("~ at a latency: it varied too much (p10 to p90 above a quarter of the median) to trust small differences")
    if any(result.estimated for result in block):
        note("~ at an energy: an estimate from CPU time and the stated TDP, not a measurement")
