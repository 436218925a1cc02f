"""A good bundle, and a way to spoil it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepress.core.artifact import Program
from edgepress.core.inputs import InputSpec
from edgepress.runtime.bundle import save_bundle

from .tiny import classifier


@pytest.fixture
def spec() -> InputSpec:
    return InputSpec(8, 8)


@pytest.fixture
def program(spec: InputSpec) -> Program:
    return classifier(spec)


@pytest.fixture
def bundle(program: Program, tmp_path: Path) -> Path:
    """The folder of a good bundle."""
    save_bundle(program, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def edit(bundle: Path) -> Callable[..., Path]:
    """A function that changes fields of the bundle's manifest."""

    def change(**fields: Any) -> Path:
        path = bundle / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        return bundle

    return change
