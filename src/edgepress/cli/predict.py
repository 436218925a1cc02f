"""`edgepress predict`: what a bundle sees in images."""

from pathlib import Path
from typing import Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import print_json, show_table

SECTION = "Bundles"


@click.command()
@click.argument("bundle")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(1, 5), default=5, show_default=True, help="How many labels to give.")
@runs_option
@json_option
def command(bundle: str, images: tuple[str, ...], top: int, runs: Path, as_json: bool) -> None:
    """Say what a bundle sees in images. Needs the base install only.

    An image that cannot be read is named, the others are answered, and the exit code tells of it.
    """
    from edgepress.cli.app import message
    from edgepress.cli.targets import load_program
    from edgepress.core.errors import DataError
    from edgepress.runtime.pipeline import Pipeline

    program, _ = load_program(bundle, runs)
    pipeline = Pipeline(program)
    answers: list[dict[str, Any]] = []
    for image in images:
        try:
            answers.append({"image": image, **_plain(pipeline(image), top)})
        except DataError as error:
            answers.append({"image": image, "error": str(error)})
            click.echo(message(error), err=True)
    if as_json:
        print_json(answers)
    else:
        lines = [line for answer in answers if "error" not in answer for line in _lines(answer)]
        if lines:
            show_table(("image", "label", "share" if "shares" in str(answers) else "score"), lines)
    if any("error" in answer for answer in answers):
        raise SystemExit(DataError.exit_code)


def _plain(answer: Any, top: int) -> dict[str, Any]:
    """Return an answer as JSON values: the best labels with their scores, or the share of the image each label has."""
    from edgepress.tasks.classification import Prediction

    if isinstance(answer, Prediction):
        return {"label": answer.label, "score": answer.score, "top": [list(pair) for pair in answer.top[:top]]}
    shares = sorted(answer.shares().items(), key=lambda pair: -pair[1])
    return {"shares": dict(shares), "size": [int(side) for side in answer.classes.shape[::-1]]}


def _lines(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    if "shares" in answer:
        pairs = [(label, share) for label, share in answer["shares"].items() if share > 0]
    else:
        pairs = answer["top"]
    return [
        (answer["image"] if number == 0 else "", label, f"{100 * score:5.1f} %")
        for number, (label, score) in enumerate(pairs)
    ]
