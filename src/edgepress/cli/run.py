"""`edgepress run`: a recipe from its data to its report."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import RUNS, json_option, runs_option
from edgepress.cli.output import note, print_json, show

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
@click.option("--fresh", multiple=True, metavar="NAME", help="Compute this stage, and what follows from it, anew.")
@click.option("--smoke", is_flag=True, help="Try every stage on little data first: a minute, results of no worth.")
@runs_option
@json_option
def command(
    recipe: str,
    sets: tuple[str, ...],
    start: str | None,
    until: str | None,
    fresh: tuple[str, ...],
    smoke: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Run RECIPE: train, compress, export, measure, report.

    RECIPE is a YAML file or the name of a shipped recipe (`edgepress recipes ls`). What an earlier run has computed
    is kept; stopped or killed at any instant, the same command goes on from there.
    """
    from edgepress.cli.shipped import find_recipe
    from edgepress.recipes.recipe import read_recipe
    from edgepress.recipes.runner import Options
    from edgepress.recipes.runner import smoke as shrink

    again = _command(recipe, sets, until, smoke, runs)
    wanted = read_recipe(find_recipe(recipe), sets)
    result, report = carry_out(shrink(wanted) if smoke else wanted, runs, Options(start, until, fresh, again), again)
    if as_json:
        print_json(as_plain(result, report))
        return
    show_result(result)
    click.echo(f"\nreport  {report}")
    for folder in bundles(result).values():
        click.echo(f"bundle  {folder}")


def carry_out(recipe: "Recipe", runs: Path, options: "Options", again: str) -> "tuple[Result, Path]":
    """Run `recipe` under a progress bar and write its report; return what it left and the report's page.

    `again` is the command that goes on after Ctrl-C.
    """
    from edgepress.cli.progress import TerminalProgress
    from edgepress.measure.report import write_report
    from edgepress.recipes.runner import run

    try:
        with TerminalProgress() as progress:
            result = run(recipe, runs, progress, options)
            return result, write_report(result.folder)
    except KeyboardInterrupt:
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


def _command(recipe: str, sets: tuple[str, ...], until: str | None, smoke: bool, runs: Path) -> str:
    """Return the command that goes on with this run: without --fresh, which would begin again."""
    words = ["edgepress", "run", recipe]
    words += [word for text in sets for word in ("--set", text)]
    words += ["--until", until] if until else []
    words += ["--smoke"] if smoke else []
    words += ["--runs", str(runs)] if str(runs) != RUNS else []
    return shlex.join(words)
