"""`edgepress eval`: how good a network is on a data set."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import note, print_json, show_table

if TYPE_CHECKING:
    from edgepress.core.artifact import Signature
    from edgepress.data.base import Data, Split

SECTION = "Bundles"


@click.command("eval")
@click.argument("what", metavar="BUNDLE|STAGE")
@click.option(
    "--data", required=True, metavar="NAME|PATH", help="A data set (cifar10), or a folder with one folder per class."
)
@click.option("--split", type=click.Choice(["test", "val"]), default="test", show_default=True)
@runs_option
@json_option
def command(what: str, data: str, split: str, runs: Path, as_json: bool) -> None:
    """Score a bundle, or a stage such as demo/student, on data."""
    import shlex

    from edgepress.cli.progress import TerminalProgress
    from edgepress.cli.targets import load_artifact
    from edgepress.measure.base import MeasureContext
    from edgepress.measure.quality import Quality
    from edgepress.recipes.runner import predictor

    artifact, folder = load_artifact(what, runs)
    loaded = load_for(data, artifact.signature)
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


def load_for(given: str, signature: "Signature") -> "Data":
    """Return the data set `given` (a name, or a folder of images) for a network of this signature.

    Classes are matched by name, so that a folder with some of them, or in another order, is scored rightly. Raises
    `DataError` where the network does not know a class or takes other images.
    """
    from edgepress.core.errors import DataError, UnknownNameError
    from edgepress.data.base import datasets
    from edgepress.data.load import load_data

    spec = signature.input
    if given in datasets:
        data = load_data(given)
    elif Path(given).is_dir():
        if spec.height != spec.width:
            raise DataError(f"folders are read at square sizes, and the network takes {spec.width}x{spec.height}")
        size = {"size": spec.height, "channels": spec.channels, "resize": spec.resize, "crop": spec.crop}
        data = load_data({"folder": {"root": given, **size}})
    else:
        raise UnknownNameError("data set (and no folder)", given, datasets)
    if data.task != signature.task:
        raise DataError(f"{data.name} is for {data.task}, the network does {signature.task}")
    if (data.input.shape, data.input.color) != (spec.shape, spec.color):
        raise DataError(f"{data.name} has images {_size(data.input)}, the network takes {_size(spec)}")
    return _relabeled(data, signature.labels)


def _size(spec: Any) -> str:
    return f"{spec.width}x{spec.height} {spec.color}"


def _relabeled(data: "Data", labels: tuple[str, ...]) -> "Data":
    """Return `data` with the class ids of `labels`."""
    from edgepress.core.errors import DataError, suggest

    if data.labels == labels:
        return data
    missing = [label for label in data.labels if label not in labels]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{data.name}: the network knows no class {missing[0]!r}{more}{suggest(missing[0], labels)}")
    ids = tuple(labels.index(label) for label in data.labels)
    splits = {name: _Relabeled(getattr(data, name), ids) for name in ("train", "val", "test")}
    return replace(data, labels=labels, **splits)


@dataclass(frozen=True)
class _Relabeled:
    """A split whose class ids are looked up in `ids`; 255 stays "do not count"."""

    split: "Split"
    ids: tuple[int, ...]

    @property
    def resident(self) -> bool:
        """As in the split itself."""
        return self.split.resident

    def __len__(self) -> int:
        return len(self.split)

    def read(self, indices: Any) -> Any:
        """Return images and translated targets."""
        import numpy as np

        images, targets = self.split.read(indices)
        table = np.arange(max(len(self.ids), 256), dtype=np.int64)
        table[: len(self.ids)] = self.ids
        return images, table[targets]
