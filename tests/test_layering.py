"""The house keeps its shape: imports point downwards, the base install needs no torch, nothing runs foreign code."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from layering import BASE_MODULES, RANK, Source, heavy, imports, light_modules, read_sources, unsafe, upward

PACKAGE = Path(__file__).parent.parent / "src" / "edgepress"
SOURCES = read_sources(PACKAGE)
MODULES = {source.module for source in SOURCES}
LIGHT = light_modules(SOURCES)
MUST_BE_LIGHT = [source for source in SOURCES if source.must_be_light]
by_module = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.module)
by_light_module = pytest.mark.parametrize("source", MUST_BE_LIGHT, ids=lambda source: source.module)


def test_every_room_has_a_place() -> None:
    rooms = {source.room for source in SOURCES} - {""}
    assert rooms <= set(RANK), "give the new room a level in tests/layering.py and docs/architecture.md"


@by_module
def test_imports_point_downwards(source: Source) -> None:
    assert upward(source, MODULES) == []


@by_light_module
def test_light_modules_load_without_the_workshop(source: Source) -> None:
    assert heavy(source, MODULES, LIGHT) == []


@by_module
def test_nothing_runs_foreign_code_or_hides_a_fault(source: Source) -> None:
    assert unsafe(source.tree) == []


@by_module
def test_files_stay_readable(source: Source) -> None:
    lines = len(source.path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, "is there a second subject in this file?"


def test_light_modules_really_load_with_the_workshop_blocked() -> None:
    """The syntax tree can be fooled (`importlib`, registries); an interpreter cannot."""
    program = (
        "import importlib, sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'onnx', 'onnxscript', 'pyarrow', 'sklearn', 'scipy', 'yaml',\n"
        "             'altair', 'jinja2', 'psutil', 'safetensors', 'openvino', 'nncf'):\n"
        "    sys.modules[name] = None\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
    )
    names = [source.module for source in MUST_BE_LIGHT if source.path.name != "__main__.py"]  # which would run
    result = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_allowed_modules_are_the_base_dependencies() -> None:
    project = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=~!\[; ]", line)[0] for line in project["dependencies"]}
    assert {"PIL" if name == "pillow" else name for name in names} == BASE_MODULES


def _source(module: str, text: str) -> Source:
    return Source(Path(*module.split(".")).with_suffix(".py"), module, ast.parse(text))


@pytest.mark.parametrize(
    ("module", "text", "allowed"),
    [
        ("edgepress.core.files", "from edgepress.core import errors", True),
        ("edgepress.runtime.bundle", "from edgepress.tasks.base import Task", True),
        ("edgepress.quantize.stages", "def f():\n    from edgepress.export.onnx import export_onnx", True),
        ("edgepress.core.stage", "if TYPE_CHECKING:\n    from edgepress.data.base import Data", True),
        ("edgepress.core.stage", "from edgepress.data.base import Data", False),
        ("edgepress.quantize.ladder", "def f():\n    import edgepress.train.fit", False),
        ("edgepress.prune.cut", "from edgepress.train.fit import fit", False),
        ("edgepress.models.resnet", "from edgepress.data import base", False),
        ("edgepress.core.files", "from edgepress import load", False),
        ("edgepress.core.files", "from .errors import suggest", False),
    ],
)
def test_the_layering_check_sees(module: str, text: str, allowed: bool) -> None:
    modules = MODULES | {"edgepress.core.errors", "edgepress.data.base"}
    assert (upward(_source(module, text), modules) == []) is allowed


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("import numpy as np\nfrom PIL import Image", True),
        ("def f():\n    import torch", True),
        ("if TYPE_CHECKING:\n    import torch", True),
        ("import torch", False),
        ("class A:\n    import sklearn.datasets", False),
        ("try:\n    import timm\nexcept ImportError:\n    timm = None", False),
        ("from edgepress.models.base import models", False),
    ],
)
def test_the_weight_check_sees(text: str, allowed: bool) -> None:
    assert (heavy(_source("edgepress.runtime.engine", text), MODULES, LIGHT) == []) is allowed


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("torch.load(path, weights_only=True)", True),
        ("class Safe(pickle.Unpickler):\n    pass", True),
        ("try:\n    f()\nexcept (OSError, ValueError):\n    g()", True),
        ("torch.load(path)", False),
        ("torch.load(path, weights_only=False)", False),
        ("pickle.load(file)", False),
        ("from pickle import loads", False),
        ("numpy.load(path, allow_pickle=True)", False),
        ("yaml.load(text, Loader=yaml.Loader)", False),
        ("try:\n    f()\nexcept:\n    raise", False),
        ("try:\n    f()\nexcept (OSError, Exception):\n    g()", False),
        ("with contextlib.suppress(Exception):\n    f()", False),
    ],
)
def test_the_safety_check_sees(text: str, allowed: bool) -> None:
    assert (unsafe(ast.parse(text)) == []) is allowed


def test_imports_resolve_to_modules() -> None:
    tree = ast.parse("from edgepress.core import errors, Missing")
    found = {found.module for found in imports(tree, {"edgepress.core.errors"})}
    assert found == {"edgepress.core.errors", "edgepress.core"}
