"""One small run that all tests of the command line look at: three stages on synthetic gratings, in seconds."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cli.helpers import RECIPE, Call, Small
from edgepress.cli.app import app


@pytest.fixture(scope="session")
def call() -> Call:
    """Run a command in this process."""

    def invoke(*words: str | Path) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    return invoke


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, call: Call) -> Small:
    folder = tmp_path_factory.mktemp("small run")
    recipe, runs, image = folder / "small.yaml", folder / "runs", folder / "gray.png"
    recipe.write_text(RECIPE)
    Image.new("RGB", (20, 16), (90, 120, 150)).save(image)
    result = call("run", recipe, "--runs", runs, "--json")
    assert result.exit_code == 0, result.output
    return Small(recipe, runs, image, json.loads(result.stdout))
