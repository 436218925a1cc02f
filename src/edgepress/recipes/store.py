"""Where artifacts lie on the disk: `runs/<stage>-<key>/`, complete once `done` is there."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepress.core.artifact import Artifact, Program
from edgepress.core.errors import BundleError
from edgepress.core.files import LOCK, lock, write_bytes, write_json
from edgepress.measure.rows import Row, read_rows

STATE, LOG, NOTES, DONE, BUNDLE, STAGE = "state.pt", "log.jsonl", "notes.json", "done", "bundle", "stage.json"


class Shelf:
    """The folder of one stage's result."""

    def __init__(self, root: Path, kind: str, key: str) -> None:
        self.folder = root / f"{kind}-{key}"
        self.key = key

    @property
    def done(self) -> bool:
        """True where the artifact is complete. Nothing else counts as one."""
        return (self.folder / DONE).exists()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process out of this folder for the block."""
        busy = f"another run is working in {self.folder}; wait for it, or give one of them another --runs folder"
        with lock(self.folder, busy):
            yield

    def save(self, artifact: Artifact, about: dict[str, Any], notes: dict[str, Any]) -> None:
        """Write the artifact and, last of all, `done`; then drop the state that only an unfinished stage needs."""
        if isinstance(artifact, Program):
            from edgepress.runtime.bundle import save_bundle

            save_bundle(artifact, self.folder / BUNDLE)
        else:
            from edgepress.models.structure import save_model

            save_model(artifact, self.folder)
        write_json(self.folder / NOTES, notes)
        write_json(self.folder / STAGE, about)
        write_bytes(self.folder / DONE, b"")
        with contextlib.suppress(FileNotFoundError):
            (self.folder / STATE).unlink()

    def load(self) -> Artifact:
        """Return the artifact; raise `BundleError` where it is not complete or is damaged."""
        if not self.done:
            raise BundleError(f"{self.folder} is not finished: run its recipe again")
        if (self.folder / BUNDLE).exists():
            from edgepress.runtime.bundle import read_bundle

            return read_bundle(self.folder / BUNDLE)
        from edgepress.models.structure import load_model

        return replace(load_model(self.folder), key=self.key)

    def about(self) -> dict[str, Any]:
        """Return what was written about the stage when it was done."""
        return json.loads((self.folder / STAGE).read_text())

    def notes(self) -> dict[str, Any]:
        """Return what the stage wanted known about how it ran."""
        return json.loads((self.folder / NOTES).read_text())

    def write_log(self, records: Sequence[dict[str, Any]]) -> None:
        """Replace the log by `records`."""
        write_bytes(self.folder / LOG, "".join(json.dumps(r) + "\n" for r in records).encode())

    def rows_path(self, measure: str) -> Path:
        """Return where the rows of one measurement lie; the file is there only when the measurement is complete."""
        return self.folder / "rows" / f"{measure}.jsonl"

    def rows(self) -> list[Row]:
        """Return all rows measured of this artifact."""
        return [row for path in sorted((self.folder / "rows").glob("*.jsonl")) for row in read_rows(path)]

    def forget(self) -> None:
        """Remove the artifact, `done` first, so that a half-removed one does not count; the lock file is in use."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / DONE).unlink()
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


def recipe_folder(root: Path, name: str) -> Path:
    """Return the folder that holds the record and the report of the recipe `name`."""
    return root / f"recipe-{name}"


def recorded_runs(root: Path) -> list[dict[str, Any]]:
    """Return the records of all recipes run under `root`, the newest first; a damaged record is passed over."""
    found = []
    for path in root.glob("recipe-*/run.json"):
        with contextlib.suppress(ValueError, OSError):
            run = json.loads(path.read_text())
            if isinstance(run, dict):
                found.append(run)
    return sorted(found, key=lambda run: str(run.get("date", "")), reverse=True)


def recorded_run(stage: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the newest run that holds a stage's folder, and the stage's entry there."""
    stage = stage.resolve()
    for record in recorded_runs(stage.parent):
        for entry in record.get("stages", []):
            if entry.get("folder") == stage.name:
                return record, entry
    return None, None


def unused(root: Path) -> list[Path]:
    """Return the stage folders and left-over temporary files that no recorded run points at."""
    used = {stage["folder"] for run in recorded_runs(root) for stage in run.get("stages", [])}
    folders = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith("recipe-")] if root.is_dir() else []
    return sorted(p for p in folders if p.name not in used and ((p / STAGE).exists() or _looks_ours(p)))


def _looks_ours(path: Path) -> bool:
    return (path / STATE).exists() or (path / LOCK).exists() or path.name.endswith((".tmp", ".old"))
