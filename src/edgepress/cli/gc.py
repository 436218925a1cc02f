"""`edgepress gc`: what no recorded run needs any more, and its removal."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import note, print_json, show_table

SECTION = "Results"

_NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{16}|\..+\.(tmp|old)")
_OURS = re.compile(
    r"stage\.json|structure\.json|weights\.safetensors|rows\.jsonl|log\.jsonl|notes\.json|state\.pt|done|bundle|rows|"
    r"\.lock|\..+\.(tmp|old)"
)


CACHE = Path("cache") / "teacher"
"""Where the outputs of teachers are kept, below the folder of runs."""


@dataclass(frozen=True)
class Leftover:
    """A folder that no run points at; `kept` says why it is not removed all the same, empty where it is."""

    folder: Path
    bytes: int
    kept: str


@click.command()
@runs_option
@click.option("--yes", is_flag=True, help="Remove what is listed.")
@click.option("--unfinished", is_flag=True, help="Also what was stopped half-way and could go on.")
@click.option("--cache", is_flag=True, help="Also kept outputs of teachers; they are computed again when needed.")
@json_option
def command(runs: Path, yes: bool, unfinished: bool, cache: bool, as_json: bool) -> None:
    """List what no recorded run needs any more; --yes removes it.

    A folder that holds files which are not ours, or in which a process is working, is left alone. Nothing is removed
    while a recipe runs in the same folder.
    """
    from edgepress.cli.targets import folder_bytes
    from edgepress.measure.tables import size_text

    with contextlib.ExitStack() as held:
        if yes:
            held.enter_context(_quiet(runs))
        found = find_leftovers(runs, unfinished, cache)
        gone = [one for one in found if not one.kept]
        removed = [one for one in gone if _remove(one.folder)] if yes else []
    if as_json:
        print_json(
            {
                "unused": [{"folder": str(o.folder), "bytes": o.bytes, "kept": o.kept} for o in found],
                "bytes": sum(one.bytes for one in gone),
                "removed": [str(one.folder) for one in removed],
                "removed_bytes": sum(one.bytes for one in removed),
            }
        )
        return
    if not cache and (size := folder_bytes(runs / CACHE)):
        note(f"outputs of teachers take {size_text(size)}; they save time, and --cache removes them, too")
    if not found:
        note(f"nothing to remove in {runs}: every result belongs to a recorded run")
        return
    show_table(
        ("folder", "size", ""),
        [
            (str(one.folder.relative_to(runs)), size_text(one.bytes), f"kept: {one.kept}" if one.kept else "")
            for one in found
        ],
        right=("size",),
    )
    if yes:
        note(f"\nremoved {len(removed)} of {len(found)} folders, {size_text(sum(one.bytes for one in removed))}")
    elif gone:
        note(f"\n{size_text(sum(one.bytes for one in gone))} in {len(gone)} folders; --yes removes them")


def find_leftovers(runs: Path, unfinished: bool, cache: bool = False) -> list[Leftover]:
    """Return the folders under `runs` that no recorded run points at, with the reason why one of them is kept; with
    `cache` also that of the kept outputs of teachers."""
    from edgepress.cli.targets import folder_bytes
    from edgepress.recipes.store import unused

    # A link or a folder of another name form was not made by us, whatever it holds.
    ours = [path for path in unused(runs) if _NAME.fullmatch(path.name) and not path.is_symlink()]
    found = [Leftover(path, folder_bytes(path), _reason(path, unfinished)) for path in ours]
    outputs = runs / CACHE
    if cache and outputs.is_dir() and not outputs.is_symlink():
        found.append(Leftover(outputs, folder_bytes(outputs), ""))
    return found


def _reason(folder: Path, unfinished: bool) -> str:
    foreign = [] if folder.name.startswith(".") else [p.name for p in folder.iterdir() if not _OURS.fullmatch(p.name)]
    if foreign:
        return f"{sorted(foreign)[0]} in it is not ours"
    if _is_held(folder):
        return "a process is working in it"
    if (folder / "state.pt").exists() and not (folder / "done").exists() and not unfinished:
        return "unfinished, a run would go on from it"
    return ""


def _is_held(folder: Path) -> bool:
    import fcntl

    try:
        with open(folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _remove(folder: Path) -> bool:
    """Remove a folder, unless a process took it meanwhile. `done` goes first: a half-removed result does not count."""
    from edgepress.core.errors import BusyError
    from edgepress.core.files import explain_disk, lock

    try:
        with explain_disk(folder), lock(folder, "in use"):
            (folder / "done").unlink(missing_ok=True)
            shutil.rmtree(folder)
    except BusyError:
        return False
    return True


@contextlib.contextmanager
def _quiet(runs: Path) -> Iterator[None]:
    """Hold every recipe under `runs`: a running one may count on results that it has not recorded yet."""
    from edgepress.cli.targets import read_record
    from edgepress.core.files import lock

    with contextlib.ExitStack() as held:
        for folder in sorted(path for path in runs.glob("recipe-*") if path.is_dir()):
            name = folder.name.removeprefix("recipe-")
            held.enter_context(lock(folder, f"the recipe {name!r} is running in {runs}; remove things when it is done"))
            if (folder / "run.json").exists():
                read_record(folder)  # a damaged record would make all its results look unused
        yield
