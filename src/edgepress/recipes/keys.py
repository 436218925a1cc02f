"""Keys: what a result depends on, and nothing else, hashed to 16 hex digits."""

import dataclasses
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepress.core.config import dump
from edgepress.core.errors import ConfigError
from edgepress.core.files import sha256
from edgepress.measure.base import Measure, measures
from edgepress.recipes.recipe import Step

OWN_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def stage_key(step: Step, inputs: dict[str, str], fingerprint: str) -> str:
    """Return the key of what `step` computes. `inputs` maps the labels it depends on to their keys.

    Labels are not in the key, so a renamed stage reruns nothing. The content of a weights file is, its path is not; so
    is that of the file in which a network of the user's own is written.
    """
    fields = dump(step.stage)
    for name in type(step.stage).references:
        named = fields[name]
        if isinstance(named, list):
            fields[name] = [inputs[label.removeprefix("$")] for label in named]
        elif named:
            fields[name] = inputs[named.removeprefix("$")]
    for field in dataclasses.fields(step.stage):
        if field.name in type(step.stage).later and getattr(step.stage, field.name) == field.default:
            del fields[field.name]
    for name in type(step.stage).files:
        if fields.get(name):
            fields[name] = _content(Path(fields[name]), name, step.label)
    facts = {
        "stage": step.kind,
        "version": type(step.stage).version,
        "fields": fields,
        "input": inputs[step.input] if step.input else None,
        "data": fingerprint,
        "seed": step.seed,
    }
    code = {name: source for name in _texts(fields) if (source := _source(name))}
    return digest(facts | ({"code": code} if code else {}))


def measure_key(measure: Measure, others: list[str]) -> str:
    """Return the name of one measurement's rows: the measure, its fields and the keys it compares with."""
    name = measures.name_of(type(measure))
    return f"{name}-{digest({'measure': name, 'fields': dump(measure), 'others': others})[:8]}"


def digest(facts: Any) -> str:
    """Return 16 hex digits of the SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in plain JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _source(name: str) -> str | None:
    """Return the SHA-256 of the file of the user's own network `package.module:factory`; None for any other text. What
    that file imports is not looked at."""
    if not OWN_CODE.fullmatch(name) or name.partition(":")[0] in ("timm", "torchvision", "smp"):
        return None
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return sha256(Path(found.origin)) if found and found.origin and Path(found.origin).is_file() else None


def _content(path: Path, field: str, label: str) -> str:
    if not path.is_file():
        raise ConfigError(f"stage {label!r}: field {field!r}: there is no file {path}")
    return sha256(path)
