"""`edgepress ls`: what has been run, and what it takes on the disk."""

from pathlib import Path
from typing import Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import duration, heading, note, print_json, show_table, when

SECTION = "Results"


@click.command()
@runs_option
@json_option
def command(runs: Path, as_json: bool) -> None:
    """List the recorded runs, their stages and sizes on disk."""
    from edgepress.measure.tables import size_text
    from edgepress.recipes.store import recorded_runs, unused

    found = [_describe(record, runs) for record in recorded_runs(runs)]
    if as_json:
        print_json(found)
        return
    if not found:
        note(f"no runs in {runs}; `edgepress run RECIPE` makes one, `edgepress recipes ls` shows recipes")
    for number, run in enumerate(found):
        if number:
            click.echo()
        heading(f"{run['name']}  ({when(run['date'])}, {size_text(run['bytes'])})")
        show_table(
            ("stage", "precision", "time", "size", "folder"),
            [
                (s["label"], s["precision"], duration(s["seconds"]), size_text(s["bytes"]), s["folder"])
                for s in run["stages"]
            ],
            right=("time", "size"),
        )
    if left := unused(runs):
        note(f"\n`edgepress gc` lists {len(left)} folder{'s' * (len(left) > 1)} that no run points at")


def _describe(record: dict[str, Any], runs: Path) -> dict[str, Any]:
    from edgepress.cli.targets import folder_bytes

    stages = [{**stage, "bytes": folder_bytes(runs / stage["folder"])} for stage in record["stages"]]
    return {
        "name": record["name"],
        "date": record["date"],
        "folder": str(runs / f"recipe-{record['name']}"),
        "command": record["command"],
        "bytes": sum(stage["bytes"] for stage in stages),
        "stages": stages,
    }
