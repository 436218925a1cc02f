"""What `edgepress show` looks into: a network, the file exported from it, and images to show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepress.core.artifact import Model, Program, Signature


@dataclass(frozen=True)
class Subject:
    """`model` is the editable network, of an exported one that which it was exported from, if it is known; `program`
    the exported one, if it was asked for; `record` the run it belongs to, `label` its name."""

    label: str
    model: "Model | None"
    program: "Program | None"
    record: dict[str, Any] | None

    @property
    def signature(self) -> "Signature":
        """What the network takes and gives."""
        found = self.model or self.program
        assert found is not None
        return found.signature


def find_subject(what: str, runs: Path) -> Subject:
    """Return the network that `what` means; raise `ConfigError` for a run, whose stages have to be named."""
    from edgepress.cli.targets import load_artifact
    from edgepress.core.artifact import Program
    from edgepress.recipes.store import recorded_run

    artifact, folder = load_artifact(what, runs)
    stage = folder.parent if folder.name == "bundle" else folder
    record, entry = recorded_run(stage)
    label = str(entry["label"]) if entry else stage.resolve().name
    if not isinstance(artifact, Program):
        return Subject(label, artifact, None, record)
    return Subject(label, _source(record, entry, stage.resolve().parent), artifact, record)


def _source(record: dict[str, Any] | None, entry: dict[str, Any] | None, runs: Path) -> "Model | None":
    """Return the network that an exported stage was made from."""
    from edgepress.cli.targets import shelf_of
    from edgepress.core.artifact import Program

    by_label = {stage["label"]: stage for stage in record["stages"]} if record else {}
    name = entry["input"] if entry else None
    while name in by_label:
        shelf, name = shelf_of(runs / by_label[name]["folder"]), by_label[name]["input"]
        artifact = shelf.load() if shelf.done else None
        if artifact is not None and not isinstance(artifact, Program):
            return artifact
    return None


def images_for(subject: Subject, files: Sequence[str], count: int, noise: bool) -> "tuple[NDArray[np.uint8], str]":
    """Return up to `count` uint8 images `(n, height, width, channels)` and where they come from.

    These are the `files`, else validation images of the run's data, else noise where that will do. Raises `ConfigError`
    where there are none, and what reading them raises.
    """
    import numpy as np

    from edgepress.runtime.preprocess import prepare

    spec = subject.signature.input
    if files:
        return np.stack([prepare(file, spec) for file in files]), f"{len(files)} image{'s' * (len(files) > 1)}"
    if subject.record and subject.record.get("recipe"):
        from edgepress.core.errors import DataError
        from edgepress.data.base import spread
        from edgepress.data.load import load_data

        try:
            data = load_data(subject.record["recipe"]["data"])
        except DataError as error:
            if not noise:
                raise DataError(f"{error}; or name images of your own with --image") from None
        else:
            if len(data.val) and data.input.shape == spec.shape:
                images = data.val.read(spread(data.val, count))[0]
                return images, f"{len(images)} validation images of {data.name}"
    if not noise:
        raise ConfigError(f"{subject.label!r} is of no recorded run, so its data is not known: add --image FILE")
    shape = (count, spec.height, spec.width, spec.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), f"{count} images of noise"
