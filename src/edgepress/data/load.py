"""From what a recipe says about data to the data, and what of it this machine has."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.data.base import Data, DataSource, datasets


def read_source(given: DataSource | str | Mapping[str, Any]) -> DataSource:
    """Return the data source that `given` describes: a name, or a mapping of one name to its fields.

    Nothing is read from disk. Raises `ConfigError` for an unknown name or field.
    """
    if isinstance(given, DataSource):
        return given
    named: Any = {given: None} if isinstance(given, str) else given
    if not isinstance(named, Mapping) or len(named) != 1:
        raise ConfigError(f"data: expected one name with its fields, such as {{cifar10: {{}}}}, got {given!r}")
    [(name, fields)] = named.items()
    return parse(datasets.get(str(name)), {} if fields is None else fields, f"data {name!r}")


def load_data(given: DataSource | str | Mapping[str, Any]) -> Data:
    """Return the data set that `given` describes, as `read_source` reads it."""
    return read_source(given).load()


def found() -> list[tuple[str, str | None]]:
    """Return each registered data set with None where its default source can be loaded here, else the reason."""
    return [(name, _reason(datasets.get(name), name)) for name in datasets]


def _reason(source: type[DataSource], name: str) -> str | None:
    required = [
        field.name
        for field in dataclasses.fields(source)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if required:
        return f"needs its {' and '.join(required)}: data: {{{name}: {{{required[0]}: ...}}}}"
    return source().available()
