"""The small run that the tests look at, and ways to run a command."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result

RECIPE = """\
# A small chain
name: small
data: {synthetic: {classes: 3, size: 16, train: 96, val: 24, test: 24}}
stages:
  - train: {name: teacher, model: digits_cnn, epochs: 1, batch: 32, precision: fp32}
  - distill:
      {name: student, model: digits_cnn, arguments: {width: 4}, teacher: $teacher, epochs: 1, views: 1, precision: fp32}
  - export: {name: file}
measure: [quality, size, {latency: {rounds: 5, warmup: 1}}]
"""

Call = Callable[..., Result]


def command(*words: str | Path) -> list[str]:
    """Return the command line that runs edgepress in a process of its own."""
    return [sys.executable, "-m", "edgepress.cli", *(str(word) for word in words)]


def fresh(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    found = {**os.environ, **environment}
    return subprocess.run(command(*words), env=found, capture_output=True, text=True, timeout=100, check=False)


@dataclass(frozen=True)
class Small:
    """The small run: its recipe, its `runs` folder, an image, and what `run --json` printed."""

    recipe: Path
    runs: Path
    image: Path
    printed: dict[str, Any]

    @property
    def bundle(self) -> Path:
        """The bundle of the last stage."""
        return Path(self.printed["bundles"]["file"])
