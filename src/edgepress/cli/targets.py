"""What a person may mean by a name on the command line: a recorded run, a stage's folder, a bundle."""

import contextlib
import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgepress.core.errors import BundleError, ConfigError, suggest

if TYPE_CHECKING:
    from edgepress.core.artifact import Artifact, Program
    from edgepress.measure.rows import Row

Kind = Literal["run", "stage", "bundle"]

_MARKS: tuple[tuple[str, Kind], ...] = (
    ("run.json", "run"),
    ("manifest.json", "bundle"),
    ("stage.json", "stage"),
    ("state.pt", "stage"),
)


@dataclass(frozen=True)
class Target:
    """A folder, and what it is."""

    kind: Kind
    folder: Path


def find_target(given: str, runs: Path) -> Target:
    """Return what `given` means: a path, a name below `runs`, or RUN/LABEL for one stage of a recorded run.

    Raises `ConfigError` with the names there are.
    """
    for folder in (Path(given), runs / f"recipe-{given}", runs / given):
        for mark, kind in _MARKS:
            if (folder / mark).exists():
                return Target(kind, folder)
    run, _, label = given.partition("/")
    if label and (runs / f"recipe-{run}" / "run.json").exists():
        stages = {stage["label"]: stage["folder"] for stage in read_record(runs / f"recipe-{run}")["stages"]}
        if label not in stages:
            raise ConfigError(f"run {run!r} has no stage {label!r}{suggest(label, stages)}")
        return Target("stage", runs / stages[label])
    names = [path.parent.name.removeprefix("recipe-") for path in runs.glob("recipe-*/run.json")]
    what = "a folder that is neither a run, a stage nor a bundle" if Path(given).is_dir() else "not there"
    raise ConfigError(f"{given!r} is {what}; runs in {runs}: {', '.join(sorted(names)) or 'none'}")


def find_run(given: str, runs: Path) -> Path:
    """Return the folder of the run `given`; raise `ConfigError` where it is something else."""
    target = find_target(given, runs)
    if target.kind != "run":
        raise ConfigError(f"{given!r} is a {target.kind}, not a run; `edgepress ls` shows the runs there are")
    return target.folder


def find_report(given: str, runs: Path) -> Path:
    """Return the folder that a report can be written of: a matrix by its folder or its name below `runs`, else a run.

    Raises `ConfigError` where it is something else.
    """
    matrices = (folder for folder in (Path(given), runs / given) if (folder / "bench.json").exists())
    return next(matrices, None) or find_run(given, runs)


def read_record(folder: Path) -> dict[str, Any]:
    """Return `run.json` of the run in `folder`; raise `BundleError` where it is damaged."""
    try:
        found = json.loads((folder / "run.json").read_bytes())
    except ValueError as error:
        raise BundleError(
            f"{folder / 'run.json'} is damaged ({error}); run the recipe again, stages are kept"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("stages"), list):
        raise BundleError(
            f"{folder / 'run.json'} is damaged (no list of stages); run the recipe again, stages are kept"
        )
    return found


def shelf_of(folder: Path) -> Any:
    """Return the `recipes.store.Shelf` of a stage's folder."""
    from edgepress.recipes.store import Shelf

    kind, _, key = folder.resolve().name.rpartition("-")
    return Shelf(folder.resolve().parent, kind, key)


def load_artifact(given: str, runs: Path) -> "tuple[Artifact, Path]":
    """Return the network that `given` means and its folder. Raises `ConfigError` for a run, whose stages have to be
    named, and `BundleError` for one that is unfinished or damaged."""
    target = find_target(given, runs)
    if target.kind == "run":
        labels = ", ".join(f"{given}/{stage['label']}" for stage in read_record(target.folder)["stages"])
        raise ConfigError(f"{given!r} is a run of several networks; name one of them: {labels}")
    if target.kind == "stage":
        return shelf_of(target.folder).load(), target.folder
    from edgepress.runtime.bundle import read_bundle

    return read_bundle(target.folder), target.folder


def load_program(given: str, runs: Path) -> "tuple[Program, Path]":
    """Return the exported network that `given` means, and the folder of its bundle."""
    target = find_target(given, runs)
    if target.kind == "stage" and not (target.folder / "bundle").is_dir():
        raise BundleError(f"{given!r} is not an exported network; add an `export` stage after it")
    if target.kind == "run":
        load_artifact(given, runs)
    from edgepress.runtime.bundle import read_bundle

    folder = target.folder / "bundle" if target.kind == "stage" else target.folder
    return read_bundle(folder), folder


def stage_rows(folder: Path, label: str) -> "list[Row]":
    """Return the newest rows measured of the stage in `folder`, under the name `label`."""
    from edgepress.measure.rows import newest

    return newest(replace(row, artifact=label) for row in shelf_of(folder).rows())


def run_rows(record: dict[str, Any], runs: Path) -> "list[Row]":
    """Return the newest rows of all stages of a run."""
    return [row for stage in record["stages"] for row in stage_rows(runs / stage["folder"], stage["label"])]


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below `folder`; links are not followed, and a file may go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            about = path.lstat()
            total += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return total


def numbered(names: Iterable[str]) -> list[str]:
    """Return `names`, each with a number behind it where an earlier one is called so: files are written under them."""
    taken: dict[str, int] = {}
    for name in names:
        number, free = taken.get(name, 1), name
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken[name] = number
        taken.setdefault(free, 1)
    return list(taken)
