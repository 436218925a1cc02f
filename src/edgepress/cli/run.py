"""`edgepress run`: a recipe from its data to its report."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import RUNS, json_option, runs_option
from edgepress.cli.output import note, print_json, show
from edgepress.core.ranks import ALONE, Ranks, processes_started

if TYPE_CHECKING:
    from edgepress.recipes.recipe import Recipe
    from edgepress.recipes.runner import Options, Result

SECTION = "Compress"


@click.command()
@click.argument("recipe")
@click.option(
    "--set", "sets", multiple=True, metavar="NAME.FIELD=VALUE", help="Change a field: student.epochs=5, seed=1."
)
@click.option("--from", "start", metavar="NAME", help="Take everything before this stage as it is.")
@click.option("--until", metavar="NAME", help="Stop after this stage.")
@click.option("--only", multiple=True, metavar="NAME", help="Run this stage and what it needs, no other branch.")
@click.option("--fresh", multiple=True, metavar="NAME", help="Compute this stage, and what follows from it, anew.")
@click.option("--processes", type=click.IntRange(1), metavar="N", help="Train with N processes on this machine.")
@click.option("--track", metavar="A,B", help="Tell of the trainings: jsonl, tensorboard, wandb (offline).")
@click.option("--smoke", is_flag=True, help="Try every stage on little data first: a minute, results of no worth.")
@runs_option
@json_option
def command(
    recipe: str,
    sets: tuple[str, ...],
    start: str | None,
    until: str | None,
    only: tuple[str, ...],
    fresh: tuple[str, ...],
    processes: int | None,
    track: str | None,
    smoke: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Run RECIPE: train, compress, export, measure, report.

    RECIPE is a YAML file or the name of a shipped recipe (`edgepress recipes ls`). What an earlier run has computed
    is kept; stopped or killed at any instant, the same command goes on from there.

    A batch is shared by the processes, so the result is that of one process. Under `accelerate launch` or torchrun
    leave out --processes; several machines need one folder of results that all of them see.
    """
    from edgepress.cli.shipped import find_recipe
    from edgepress.recipes.recipe import read_recipe
    from edgepress.recipes.runner import Options
    from edgepress.recipes.runner import smoke as shrink

    again = _command(recipe, sets, until, only, processes, track, smoke, runs)
    wanted = read_recipe(find_recipe(recipe), sets)
    told = wanted.track.with_names(track) if track else wanted.track
    told.named()
    if processes and processes > 1 and processes_started() == 1:
        from edgepress.cli.launch import launch

        more = [word for name in fresh for word in ("--fresh", name)] + (["--from", start] if start else [])
        words = [*shlex.split(again)[1:], *more, *(["--json"] if as_json else [])]
        sys.exit(launch([sys.executable, "-m", "edgepress.cli", *words], processes, again))
    ranks = _group(processes)
    options = Options(start, until, only, fresh, again, told if track else None)
    result, report = carry_out(shrink(wanted) if smoke else wanted, runs, options, again, ranks)
    if not ranks.main:
        return
    if as_json:
        print_json(as_plain(result, report))
        return
    show_result(result)
    click.echo(f"\nreport  {report}")
    for folder in bundles(result).values():
        click.echo(f"bundle  {folder}")


def _group(processes: int | None) -> Ranks:
    """Return the processes that a launcher has started; raise `ConfigError` where that is another number of them."""
    from edgepress.core.errors import ConfigError

    started = processes_started()
    if processes not in (None, 1, started):
        raise ConfigError(f"--processes {processes}, and a launcher has started {started}: leave the option out")
    if started == 1:
        return ALONE
    from edgepress.cli.launch import end_with_launcher
    from edgepress.train.distributed import join

    end_with_launcher()
    return join()


def carry_out(
    recipe: "Recipe", runs: Path, options: "Options", again: str, ranks: Ranks = ALONE
) -> "tuple[Result, Path]":
    """Run `recipe` under a progress bar and write its report; return what it left and the report's page.

    `again` is the command that goes on after Ctrl-C. Of several processes only the main one is heard of.
    """
    from edgepress.cli.progress import TerminalProgress
    from edgepress.cli.report import write
    from edgepress.recipes.runner import run

    try:
        with TerminalProgress() as progress:
            result = run(recipe, runs, progress, options, ranks)
            return result, write(result.folder, progress) if ranks.main else result.folder
    except KeyboardInterrupt:
        if ranks.main:
            note(f"\nStopped; nothing is lost. Go on with: {again}")
        raise SystemExit(130) from None


def show_result(result: "Result") -> None:
    """Print the table of a run, one line per artifact."""
    from edgepress.measure.tables import text_table

    if result.rows:
        click.echo()
        show(text_table(result.rows))


def bundles(result: "Result") -> dict[str, Path]:
    """Return the bundle folders of the exported stages by label."""
    from edgepress.recipes.store import BUNDLE

    found = {label: shelf.folder / BUNDLE for label, shelf in result.shelves.items()}
    return {label: folder for label, folder in found.items() if folder.is_dir()}


def as_plain(result: "Result", report: Path) -> dict[str, Any]:
    """Return the result of a run as JSON values."""
    from dataclasses import asdict

    return {
        "folder": str(result.folder),
        "report": str(report),
        "stages": {label: str(shelf.folder) for label, shelf in result.shelves.items()},
        "bundles": {label: str(folder) for label, folder in bundles(result).items()},
        "rows": [asdict(row) for row in result.rows],
    }


def _command(
    recipe: str,
    sets: tuple[str, ...],
    until: str | None,
    only: tuple[str, ...],
    processes: int | None,
    track: str | None,
    smoke: bool,
    runs: Path,
) -> str:
    """Return the command that goes on with this run: without --fresh, which would begin again."""
    words = ["edgepress", "run", recipe]
    words += [word for text in sets for word in ("--set", text)]
    words += ["--until", until] if until else []
    words += [word for name in only for word in ("--only", name)]
    words += ["--processes", str(processes)] if processes and processes > 1 else []
    words += ["--track", track] if track else []
    words += ["--smoke"] if smoke else []
    words += ["--runs", str(runs)] if str(runs) != RUNS else []
    return shlex.join(words)
