"""What the README shows is run, so that it stays true."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from edgepress.recipes.recipe import parse_recipe

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "yaml"])
def test_recipes_are_valid(block: str) -> None:
    parse_recipe(yaml.safe_load(block))


@pytest.mark.parametrize("block", [text for kind, text in BLOCKS if kind == "python"])
def test_python_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoo").symlink_to(ROOT / "zoo")
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_files_it_links_to_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links and [link for link in links if not (ROOT / link).exists()] == []
