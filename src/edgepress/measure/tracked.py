"""What the tracker `jsonl` saw inside the networks of a run while they were trained: its last pictures, for a page."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("track") / "jsonl"
"""Where that tracker writes, in the folder of a run."""

MOST_PICTURES, MOST_BYTES = 24, 2_000_000
"""So much of it a page takes, of all networks together."""


@dataclass(frozen=True)
class TrackedPicture:
    """A picture as a data address, what it shows ("samples", a layer's path), and what was said of it."""

    source: str
    name: str
    note: str


@dataclass(frozen=True)
class Tracked:
    """The last pictures of one training."""

    label: str
    pictures: tuple[TrackedPicture, ...]


def tracked(run_folder: Path, labels: Iterable[str]) -> list[Tracked]:
    """Return the pictures of the stages `labels`; nothing of a stage that was not tracked. Records that are torn, and
    pictures that are gone, are left out."""
    found: list[Tracked] = []
    count, size = MOST_PICTURES, MOST_BYTES
    for label in labels:
        pictures: list[TrackedPicture] = []
        for record in _last(run_folder / FOLDER / f"{label}.jsonl"):
            path = run_folder / FOLDER / label / Path(record["file"]).name
            if count and path.is_file() and path.stat().st_size <= size:
                data = path.read_bytes()
                count, size = count - 1, size - len(data)
                name, after = record["image"].removeprefix("layers/"), f"step {record['step']}"
                note = record["caption"] if after in record["caption"] else f"{record['caption']}; {after}"
                address = f"data:image/png;base64,{base64.b64encode(data).decode()}"
                pictures.append(TrackedPicture(address, name, note))
        if pictures:
            found.append(Tracked(label, tuple(pictures)))
    return found


def _last(path: Path) -> list[dict[str, Any]]:
    """Return the newest record of each picture: what the network says first, then its layers as they were called."""
    newest: dict[str, dict[str, Any]] = {}
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        words = [record.get(name) for name in ("image", "file", "caption")] if isinstance(record, dict) else [None]
        if all(isinstance(word, str) for word in words) and isinstance(record.get("step"), int):
            newest[record["image"]] = record
    return sorted(newest.values(), key=lambda record: record["image"] != "samples")
