"""What is shipped is complete, and says nothing about the machine it was made on."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "edgepress"
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home/\w|Users/\w|root/|work/\w|tmp/\w+/)")
PIN = re.compile(r"^([a-z0-9._-]+)==([^ ;]+)(?: ; .+)?$")


def pins(lock: Path) -> dict[str, set[str]]:
    """Return the versions a lock allows, by package; there may be one per Python version."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if match := PIN.match(line):
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_hold_pins_and_no_addresses(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert lines and [line for line in lines if not PIN.match(line)] == []
    assert not re.search(r"://|--\w|/work|/home|/tmp|/root", lock.read_text())


def test_base_lock_is_the_light_part_of_the_train_lock(project: dict[str, list[str]]) -> None:
    base, train = pins(ROOT / "requirements" / "base.lock"), pins(ROOT / "requirements" / "train.lock")
    assert {name: train.get(name) for name in base} == base
    assert {re.split(r"[<>=]", line)[0] for line in project["dependencies"]} <= set(base)
    assert not {"torch", "torchvision", "timm", "onnx", "scipy", "pyarrow"} & set(base)


def test_tracked_files_name_no_folder_of_one_machine() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    wrong: list[str] = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if MACHINE_PATH.search(line):
                wrong.append(f"{name}:{number}")
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/".join(["", "home", "ada", "x"]), True),
        ("at " + "/".join(["", "work", "main"]), True),
        ('"' + "/".join(["", "root", ".cache"]), True),
        ("a/home/page", False),
        ("../home/x", False),
        ("/proc/self/status", False),
    ],
)
def test_the_path_check_sees(text: str, found: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is found


def test_wheel_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    files = {p.relative_to(PACKAGE.parent).as_posix() for p in PACKAGE.rglob("*") if p.is_file()}
    wanted = {name for name in files if "__pycache__" not in name and not name.endswith(".tmp")}
    assert "edgepress/py.typed" in wanted
    assert wanted - set(wheel.namelist()) == set()


def test_wheel_holds_the_recipes_and_nothing_foreign(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    recipes = {f"edgepress/_recipes/{path.name}" for path in (ROOT / "recipes").glob("*.yaml")}
    assert recipes - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"edgepress"}


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    folder = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in needed if line.startswith(("torch", "timm", "onnx>", "scipy", "pyarrow"))]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"train", "deploy", "dev", "openvino", "tensorrt"} <= set(metadata.get_all("Provides-Extra", []))
    assert "edgepress = edgepress.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()


@pytest.mark.parametrize(
    "init", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.relative_to(PACKAGE.parent).as_posix()
)
def test_every_room_says_what_it_is(init: Path) -> None:
    text = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
    assert len(text.split()) >= 5
