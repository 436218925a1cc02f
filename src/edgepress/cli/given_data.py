"""What `--data` means for a network that is there already: a name, a folder of images, or a name with its fields."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepress.core.errors import ConfigError, DataError, UnknownNameError, suggest

if TYPE_CHECKING:
    from edgepress.core.artifact import Signature
    from edgepress.core.inputs import InputSpec
    from edgepress.data.base import Data, DataSource, Split

METAVAR = "NAME|PATH|{NAME: {FIELD: ...}}"

UNCUT = ("limit", "limit_eval")
"""Fields that thin the splits out and do not decide which image is in which."""


def load_for(given: str, signature: "Signature", network: Path | None = None) -> "Data":
    """Return the data set `given` for a network of this signature.

    Where `network`, a folder, is a stage of a recorded run on that data, the splits are those of the run: cut anew,
    they would hold images it was trained on. Classes are matched by name, so that a folder with some of them, or in
    another order, is scored rightly. Raises `DataError` where the network does not know a class or takes other images.
    """
    data = _loaded(given, signature.input, recorded_data(network))
    spec = signature.input
    if data.task != signature.task:
        raise DataError(f"{data.name} is for {data.task}, the network does {signature.task}")
    if (data.input.shape, data.input.color) != (spec.shape, spec.color):
        raise DataError(f"{data.name} has images {_size(data.input)}, the network takes {_size(spec)}")
    return _relabeled(data, signature.labels)


def source_of(given: str) -> "DataSource":
    """Return the data source that `given` means by itself; raise `UnknownNameError` or `ConfigError`."""
    from edgepress.data.base import datasets
    from edgepress.data.load import read_source

    if given.lstrip().startswith("{"):
        from edgepress.recipes.recipe import parse_yaml

        return read_source(parse_yaml(given, "--data"))
    if given in datasets:
        try:
            return read_source(given)
        except ConfigError as error:
            raise ConfigError(f"{error}; write --data '{{{given}: {{field: value}}}}'") from None
    if Path(given).is_dir():
        return read_source({"folder": {"root": given}})
    raise UnknownNameError("data set (and no folder)", given, datasets)


def root_of(given: str | None) -> Path | None:
    """Return the folder that `given` is about, None for a data set that knows its own."""
    if given is None:
        return None
    root = getattr(source_of(given), "root", None)
    return Path(root).expanduser() if root else None


def recorded_data(network: Path | None) -> dict[str, Any]:
    """Return the data of the newest recorded run that holds the folder `network` (or its bundle) as a stage, whole: by
    its name, its fields. An empty mapping where there is none."""
    from edgepress.recipes.store import recorded_run

    if network is None:
        return {}
    stage = network.resolve().parent if network.name == "bundle" else network.resolve()
    record, _ = recorded_run(stage)
    found = (record or {}).get("recipe", {}).get("data")
    if isinstance(found, str):
        return {found: {}}
    if not isinstance(found, Mapping):
        return {}
    return {name: {k: v for k, v in (fields or {}).items() if k not in UNCUT} for name, fields in found.items()}


def spelled_out(given: str, network: Path | None) -> str:
    """Return `given` so that it means the same splits for a file that is in no recorded run: with the fields of the run
    that `network` is a stage of, where `given` names its data and they are not the defaults."""
    from edgepress.data.base import datasets

    recorded = recorded_data(network)
    if not _same(given, recorded):
        return given
    [(name, fields)] = recorded.items()
    defaults = {field.name: field.default for field in dataclasses.fields(datasets.get(name))}
    changed = {key: value for key, value in fields.items() if value not in (defaults.get(key), [])}
    return json.dumps({name: changed}) if changed else given


def _loaded(given: str, spec: "InputSpec", recorded: dict[str, Any]) -> "Data":
    from edgepress.data.base import datasets
    from edgepress.data.load import load_data

    if _same(given, recorded):
        return load_data(recorded)
    source = source_of(given)
    if given in datasets or not Path(given).is_dir():
        return _sized(source.load(), source, spec)
    if spec.height != spec.width:
        raise DataError(f"folders are read at square sizes, and the network takes {spec.width}x{spec.height}")
    size = {"size": spec.height, "channels": spec.channels, "resize": spec.resize, "crop": spec.crop}
    return load_data({"folder": {"root": given, **size}})


def _same(given: str, recorded: dict[str, Any]) -> bool:
    """Return whether `given` names the recorded data: as its data set, or as the folder it lies in."""
    if not recorded or given in recorded:
        return given in recorded
    root = next(iter(recorded.values())).get("root")
    return root is not None and Path(given).is_dir() and Path(root).expanduser().resolve() == Path(given).resolve()


def _sized(data: "Data", source: "DataSource", spec: "InputSpec") -> "Data":
    """Return `data` at the size of `spec`, where its source can bring it there."""
    if data.input.shape == spec.shape or not hasattr(source, "size"):
        return data
    size: Any = spec.height if data.task == "classification" else (spec.height, spec.width)
    changed: Any = {"size": size}
    try:
        return replace(source, **changed).load()
    except (TypeError, ValueError):  # not a size that this data set has
        return data


def _size(spec: "InputSpec") -> str:
    return f"{spec.width}x{spec.height} {spec.color}"


def _relabeled(data: "Data", labels: tuple[str, ...]) -> "Data":
    """Return `data` with the class ids of `labels`."""
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
