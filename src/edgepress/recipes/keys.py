"""Keys: what a result depends on, and nothing else, hashed to 16 hex digits."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from edgepress.core.config import dump
from edgepress.core.errors import ConfigError
from edgepress.core.files import sha256
from edgepress.measure.base import Measure, measures
from edgepress.recipes.recipe import Step


def stage_key(step: Step, inputs: dict[str, str], fingerprint: str) -> str:
    """Return the key of what `step` computes. `inputs` maps the labels it depends on to their keys.

    Labels are not in the key, so a renamed stage reruns nothing; the content of a weights file is, its path is not.
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
    return digest(facts)


def measure_key(measure: Measure, others: list[str]) -> str:
    """Return the name of one measurement's rows: the measure, its fields and the keys it compares with."""
    name = measures.name_of(type(measure))
    return f"{name}-{digest({'measure': name, 'fields': dump(measure), 'others': others})[:8]}"


def digest(facts: Any) -> str:
    """Return 16 hex digits of the SHA-256 of plain JSON values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _content(path: Path, field: str, label: str) -> str:
    if not path.is_file():
        raise ConfigError(f"stage {label!r}: field {field!r}: there is no file {path}")
    return sha256(path)
