"""`edgepress show --layers`: what the layers of a network do with images."""

from collections.abc import Sequence
from pathlib import Path

import click

from edgepress.cli.output import note, print_json, show_table
from edgepress.cli.subject import find_subject, images_for
from edgepress.core.errors import ConfigError

IMAGES = 32
WIDEST = 26


def show_layers(
    what: str, runs: Path, patterns: Sequence[str], files: Sequence[str], to: Path | None, as_json: bool
) -> None:
    """Print statistics of the layers that `patterns` name and write a picture of each into the folder `to`."""
    from edgepress.core.files import write_bytes
    from edgepress.models.predictor import TorchPredictor
    from edgepress.runtime.overlay import png
    from edgepress.train.layers import look_at

    subject = find_subject(what, runs)
    if subject.model is None:
        raise ConfigError(f"{what!r} is exported, and the network it was made from is not known: name that one")
    if subject.program is not None and not as_json:
        note("An exported file shows no layers; these are of the network it was made from.")
    images, origin = images_for(subject, files, IMAGES, noise=False)
    predictor, spec = TorchPredictor(subject.model), subject.signature.input
    layers = look_at(subject.model.module, patterns, lambda: predictor(images), spec.height == spec.width)
    folder = to or Path("layers") / subject.label
    for layer in layers:
        write_bytes(folder / f"{layer.path}.png", png(layer.picture()))
    if as_json:
        found = [{**layer.facts(), "picture": str(folder / f"{layer.path}.png")} for layer in layers]
        print_json({"label": subject.label, "images": origin, "layers": found})
        return
    show_table(
        ("layer", "shape", "mean", "std", "least", "most", "zeros %", "dead"),
        [
            (
                shortened(layer.path, WIDEST),
                "x".join(str(side) for side in layer.shape),
                *(f"{value:.2g}" for value in (layer.mean, layer.std, layer.least, layer.most)),
                f"{layer.zeros:.0f}",
                f"{len(layer.dead)}/{layer.shape[0]}",
            )
            for layer in layers
        ],
        right=("mean", "std", "least", "most", "zeros %", "dead"),
        gap=1,
    )
    dead = sum(len(layer.dead) for layer in layers)
    click.echo(f"\n{dead} dead channel{'s' * (dead != 1)}: the same number everywhere in all of {origin}")
    click.echo(f"pictures  {folder}")


def shortened(path: str, width: int) -> str:
    """Return a module's path in at most `width` characters: its end says most."""
    return path if len(path) <= width else "…" + path[1 - width :]
