"""Configuration is data: plain mappings to frozen dataclasses and back, strictly.

Types are checked and coerced by field type (`1e-3` is a number although YAML reads it as a string), an unknown
key names its nearest field, and all problems are reported at once.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from typing import Any, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from edgepress.core.errors import ConfigError, suggest

T = TypeVar("T")

MOST_PROBLEMS = 50
LONGEST = 200
"""Letters of a value that an error repeats."""

# Read by pydantic when it meets a standard dataclass; set as `__pydantic_config__` on every config class.
STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=False, allow_inf_nan=False)


def parse(cls: type[T], data: object, where: str = "") -> T:
    """Return `data` as an instance of the dataclass `cls`.

    `where` prefixes each problem ("recipe.yaml: stage 'student'"). Raises `ConfigError` with every problem.
    """
    lead = f"{where}: " if where else ""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{lead}expected a mapping of fields, got {type(data).__name__} {short(data)}")
    try:
        made: T = _adapter(cls).validate_python(dict(cast("Mapping[Any, Any]", data)))
    except ValidationError as error:
        problems = error.errors()
        # A hostile file can be wrong in a million places; finding the nearest name for each would take minutes.
        rest = [f"{lead}and {len(problems) - MOST_PROBLEMS} problems more"] if len(problems) > MOST_PROBLEMS else []
        raise ConfigError([lead + _explain(cls, dict(e)) for e in problems[:MOST_PROBLEMS]] + rest) from None
    if mistaken := list(_truths(data, made)):
        raise ConfigError([f"{lead}field {name!r}: expected a number, got {value}" for name, value in mistaken])
    return made


def dump(config: Any) -> dict[str, Any]:
    """Return the dataclass instance `config` as plain JSON values; `parse` is its inverse."""
    return _adapter(cast("type[Any]", type(config))).dump_python(config, mode="json")


def field_names(cls: type) -> list[str]:
    """Return the names a configuration of class `cls` may have."""
    return [f.name for f in dataclasses.fields(cls) if f.init]


@cache
def _adapter(cls: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(cls)


def _explain(cls: type, error: dict[str, Any]) -> str:
    path = list(error["loc"])
    name = ".".join(str(part) for part in path)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown field {name!r}{suggest(str(path[-1]), field_names(_owner(cls, path)))}"
    if error["type"] in ("missing", "missing_argument"):
        return f"field {name!r} is required"
    reason = error["msg"].removeprefix("Value error, ")
    subject = f"field {name!r}: " if name else ""
    return f"{subject}{reason}" + (f", got {short(error['input'])}" if name else "")


def short(value: object) -> str:
    """Return `value` as it is written, its middle left out where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def _truths(given: Any, made: Any, name: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the fields that were given as true or false (in YAML also `yes`, `on`) and were taken for 1 or 0."""
    inner: Iterable[tuple[Any, Any, Any]] = ()
    if isinstance(given, bool) and isinstance(made, int | float) and not isinstance(made, bool):
        yield name, given
    elif isinstance(given, Mapping):
        values = cast("Mapping[Any, Any]", made if isinstance(made, Mapping) else getattr(made, "__dict__", {}))
        inner = [(key, value, values.get(key)) for key, value in cast("Mapping[Any, Any]", given).items()]
    elif isinstance(given, list | tuple) and isinstance(made, list | tuple):
        inner = zip(count(), cast("list[Any]", given), cast("list[Any]", made), strict=False)
    for key, value, other in inner:
        yield from _truths(value, other, f"{name}.{key}" if name else str(key))


def _owner(cls: type, path: list[Any]) -> type:
    """Return the dataclass that the last part of `path` was meant for."""
    for part in path[:-1]:
        found = next((f.type for f in dataclasses.fields(cls) if f.name == part), None)
        if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
            return cls
        cls = found
    return cls
