"""A small recipe on generated stripes, and a progress that remembers what was said."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from edgepress.recipes.recipe import Recipe, parse_recipe
from edgepress.recipes.runner import Options, Result, run

T = TypeVar("T")

DATA = {"synthetic": {"classes": 2, "size": 16, "train": 96, "val": 16, "test": 16}}
TINY = {"model": "cifar_resnet8", "arguments": {"width": 4}, "epochs": 2, "batch": 32, "precision": "fp32"}


def mapping(*stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a recipe as plain values."""
    return {"name": "test", "data": DATA, "stages": list(stages), "measure": ["size"], **more}


def chain(**student: Any) -> dict[str, Any]:
    """Return the recipe teacher -> student, the student's fields changed by `student`."""
    teacher = {"train": {"name": "teacher", **TINY, "epochs": 1}}
    return mapping(teacher, {"distill": {"name": "student", **TINY, "teacher": "$teacher", "views": 2, **student}})


class Notes:
    """A `Progress` that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def track(self, steps: Iterable[T], total: int, label: str) -> Iterable[T]:
        """Return `steps`."""
        return steps

    def status(self, text: str) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Keep `text`."""
        self.said.append(text)

    def kept(self) -> list[str]:
        """Return the labels of the stages that were taken from an earlier run."""
        return [line.partition(":")[0] for line in self.said if "kept" in line]

    def done(self) -> list[str]:
        """Return the labels of the stages that were computed."""
        return [line.partition(":")[0] for line in self.said if ": done in" in line]


Run = Callable[..., tuple[Result, Notes]]


@pytest.fixture(scope="session")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The measured choices of precision for these networks, which take seconds and are made once."""
    runs = tmp_path_factory.mktemp("choices")
    run(parse_recipe(chain()), runs, Notes(), Options())
    return runs / "cache" / "precision"


@pytest.fixture
def runs(tmp_path: Path, choices: Path) -> Path:
    """The folder of the runs."""
    shutil.copytree(choices, tmp_path / "runs" / "cache" / "precision")
    return tmp_path / "runs"


@pytest.fixture
def run_recipe(runs: Path) -> Run:
    """Run a recipe, given as plain values or read, in `runs`."""

    def go(given: dict[str, Any] | Recipe, **options: Any) -> tuple[Result, Notes]:
        notes = Notes()
        wanted = given if isinstance(given, Recipe) else parse_recipe(given)
        return run(wanted, runs, notes, Options(**options)), notes

    return go
