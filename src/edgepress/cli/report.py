"""`edgepress report`: write the report of a run or a matrix again, or compare two."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import note, print_json

if TYPE_CHECKING:
    from edgepress.core.stage import Progress

SECTION = "Results"


@click.command()
@click.argument("run")
@click.argument("other", required=False)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The page of a comparison.")
@runs_option
@json_option
def command(run: str, other: str | None, out: Path | None, runs: Path, as_json: bool) -> None:
    """Write the report of RUN again: HTML, Markdown and CSV. With OTHER, compare the two.

    Both may be runs of recipes, or folders that `edgepress bench` left.
    """
    from edgepress.cli.targets import find_report

    if other is not None:
        _compare(find_report(run, runs), find_report(other, runs), out, runs, as_json)
        return
    folder = find_report(run, runs)
    if (folder / "bench.json").exists():
        from edgepress.measure.bench_report import write_bench_report

        files = {"html": write_bench_report(folder), "rows": folder / "rows.jsonl"}
    else:
        page = write(folder)
        files = {"html": page, "markdown": page.with_suffix(".md"), "csv": page.with_name("rows.csv")}
    if as_json:
        print_json({name: str(path) for name, path in files.items()})
        return
    for path in files.values():
        click.echo(f"{path}")


def write(folder: Path, progress: "Progress | None" = None) -> Path:
    """Write the report of the run in `folder`, with the layers and the mistakes of its result; return the page.

    Those are left out, with a note, where the data are not on this machine or the file cannot be run here.
    """
    from edgepress.core.errors import EdgepressError
    from edgepress.measure.report import write_report

    try:
        _examine(folder)
    except EdgepressError as error:
        say = note if progress is None else progress.say
        say(f"report: no layers and pictures ({error})")
    return write_report(folder)


def _examine(folder: Path) -> None:
    """Look at the exported file that a run was made for, unless that was done; keep what was found beside the run."""
    from edgepress.core.files import write_json
    from edgepress.measure.details import examine
    from edgepress.measure.history import read_run
    from edgepress.measure.report import DETAILS, read_details
    from edgepress.measure.summary import summarize
    from edgepress.recipes.recipe import parse_recipe
    from edgepress.runtime.bundle import read_bundle

    run = read_run(folder)
    step = run.step(summarize(run).result)
    bundle = folder.parent / f"{step.stage}-{step.key}" / "bundle" if step is not None else None
    if step is None or bundle is None or not bundle.is_dir() or read_details(folder, run, step.label):
        return
    data = parse_recipe(run.recipe, str(folder / "run.json")).source.load()
    names = _layer_names(run, step.source, folder.parent)
    found = examine(read_bundle(bundle), data.test if len(data.test) else data.val, names)
    write_json(folder / DETAILS, {"key": step.key, **found})


def _layer_names(run: Any, label: str, runs: Path) -> list[str]:
    """Return the module paths of the layers of the last float network before `label`, in the order of the calls."""
    from edgepress.measure.workshop import called_layers

    step = run.step(label)
    while step is not None and step.precision not in ("", "fp32"):
        step = run.step(step.source)
    folder = runs / f"{step.stage}-{step.key}" if step is not None else None
    return called_layers(folder) if folder is not None and (folder / "structure.json").exists() else []


def _compare(a: Path, b: Path, out: Path | None, runs: Path, as_json: bool) -> None:
    from edgepress.measure import compare

    one, two = compare.read_side(a), compare.read_side(b)
    names = [folder.name.removeprefix("recipe-") for folder in (a, b)]
    page = compare.write_comparison(one, two, out or runs / f"compare-{'-'.join(names)}.html")
    found = compare.changes(one, two)
    if as_json:
        print_json({"html": str(page), "sentence": compare.sentence(one, two), "changes": compare.as_json(found)})
        return
    click.echo(compare.sentence(one, two).replace("`", ""))
    click.echo(f"{page}")
