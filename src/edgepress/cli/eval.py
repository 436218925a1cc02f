"""`edgepress eval`: how good a network is on a data set."""

from dataclasses import asdict
from pathlib import Path

import click

from edgepress.cli.given_data import METAVAR
from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import note, print_json, show_table

SECTION = "Bundles"


@click.command("eval")
@click.argument("what", metavar="BUNDLE|STAGE")
@click.option(
    "--data", required=True, metavar=METAVAR, help="A data set (cifar10), or a folder with one folder per class."
)
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)
@runs_option
@json_option
def command(what: str, data: str, split: str, runs: Path, as_json: bool) -> None:
    """Score a bundle, or a stage such as demo/student, on data.

    A stage of a recorded run is scored on the splits of that run.
    """
    import shlex

    from edgepress.cli.given_data import load_for
    from edgepress.cli.progress import TerminalProgress
    from edgepress.cli.targets import load_artifact
    from edgepress.measure.base import MeasureContext
    from edgepress.measure.quality import Quality
    from edgepress.recipes.runner import predictor

    artifact, folder = load_artifact(what, runs)
    loaded = load_for(data, artifact.signature, folder)
    with TerminalProgress() as progress:
        ctx = MeasureContext(
            data=loaded,
            predictor=predictor(artifact),
            label=folder.resolve().name,
            progress=progress,
            command=shlex.join(["edgepress", "eval", what, "--data", data, "--split", split]),
        )
        rows = Quality(split="val" if split == "val" else "test")(artifact, ctx)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    show_table(("metric", "value", ""), [(row.metric, f"{row.value:.2f}", row.unit) for row in rows], right=("value",))
    note(f"\n{rows[0].n:,} images of the {split} split of {loaded.name}; {rows[0].runtime}, {rows[0].precision}")
