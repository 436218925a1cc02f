"""`edgepress demo`: the whole chain on real digits, in a minute or two."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import json_option
from edgepress.cli.output import duration, heading, note, print_json

if TYPE_CHECKING:
    from edgepress.core.artifact import Program

SECTION = "Compress"
OUT = "edgepress-demo"
RESULT = "student-int8"
"""The stage of recipes/demo.yaml whose bundle is copied out."""


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUT,
    metavar="DIR",
    show_default=True,
    help="Folder for the results.",
)
@json_option
def command(out: Path, as_json: bool) -> None:
    """Compress a digit classifier, from training to a measured file.

    On the 1,797 handwritten digits of scikit-learn: a teacher, a tiny student alone and taught by the teacher, INT8,
    exported to ONNX and measured. Takes less than two minutes; a second time it takes what is there.
    """
    import time

    from edgepress.cli.run import as_plain, bundles, carry_out, show_result
    from edgepress.cli.shipped import find_shipped
    from edgepress.core.files import write_bytes
    from edgepress.recipes.recipe import read_recipe
    from edgepress.recipes.runner import Options

    begin = time.monotonic()
    again = shlex.join(["edgepress", "demo", *(["--out", str(out)] if str(out) != OUT else [])])
    note("Digits: teacher -> student -> INT8 -> ONNX -> measured file (loading torch ...)")
    recipe = read_recipe(find_shipped("demo"))
    result, report = carry_out(recipe, out / "runs", Options(command=again), again)
    page, bundle = out / "report.html", out / "bundle"
    write_bytes(page, report.read_bytes())
    image = _hand_out(bundles(result)[RESULT], bundle, recipe.source.load())
    if as_json:
        print_json(as_plain(result, page) | {"bundle": str(bundle), "image": str(image)})
        return
    show_result(result)
    click.echo(f"\nreport  {page}  (open it in a browser)\nbundle  {bundle}\n")
    heading(f"Done in {duration(time.monotonic() - begin)}. Next:")
    quoted = shlex.quote(str(bundle))
    click.echo(f"  edgepress predict {quoted} {shlex.quote(str(image))}")
    click.echo(f"  edgepress bench {quoted}")
    click.echo("  edgepress recipes ls              recipes for other data")
    click.echo("  edgepress recipes copy demo       a recipe of your own to change and run")


def _hand_out(made: Path, bundle: Path, data: Any) -> Path:
    """Copy the bundle out of the runs, and put a digit of the test split beside it; return its path."""
    import io
    from dataclasses import replace

    import numpy as np
    from PIL import Image

    from edgepress.core.files import write_bytes
    from edgepress.runtime.bundle import read_bundle, save_bundle

    program: Program = read_bundle(made)
    save_bundle(replace(program, provenance={**program.provenance, "name": "edgepress-demo"}), bundle)
    images, targets = data.test.read(np.arange(1))
    path = bundle.parent / f"digit-{data.labels[int(targets[0])]}.png"
    encoded = io.BytesIO()
    Image.fromarray(images[0, :, :, 0]).save(encoded, "PNG")
    write_bytes(path, encoded.getvalue())
    return path
