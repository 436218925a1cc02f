"""`edgepress report`: write the report of a run again."""

from pathlib import Path

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import print_json

SECTION = "Results"


@click.command()
@click.argument("run")
@runs_option
@json_option
def command(run: str, runs: Path, as_json: bool) -> None:
    """Write the report of RUN again: HTML, Markdown and CSV."""
    from edgepress.cli.targets import find_run
    from edgepress.measure.report import write_report

    page = write_report(find_run(run, runs))
    files = {"html": page, "markdown": page.with_suffix(".md"), "csv": page.with_name("rows.csv")}
    if as_json:
        print_json({name: str(path) for name, path in files.items()})
        return
    for path in files.values():
        click.echo(f"{path}")
