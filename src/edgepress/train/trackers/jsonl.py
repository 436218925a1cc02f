"""The tracker `jsonl`: one line of JSON per record, images as PNG files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.files import write_bytes
from edgepress.runtime.overlay import png
from edgepress.train.trackers.base import Recorder, Tracker, Training, trackers


@trackers.register("jsonl")
@dataclass(frozen=True)
class Jsonl(Tracker):
    """`jsonl/LABEL.jsonl`: the first line says how the network is trained, each other one holds a step's values or the
    name of an image, which lies in `jsonl/LABEL/`."""

    def open(self, training: Training) -> Recorder:
        """Go on with the file of an earlier run as far as that run counts."""
        return _Lines(training)


class _Lines(Recorder):
    def __init__(self, training: Training) -> None:
        self.path = training.folder / "jsonl" / f"{training.label}.jsonl"
        kept = [line for line in _read(self.path) if line.get("key") == training.key or "step" in line]
        ours = bool(kept) and kept[0].get("key") == training.key
        earlier = [line for line in kept if 0 < line.get("step", 0) <= training.step] if ours else []
        head = {"recipe": training.recipe, "label": training.label, "key": training.key, **training.about}
        write_bytes(self.path, "".join(json.dumps(line) + "\n" for line in [head, *earlier]).encode())
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  (open as long as the training)

    def values(self, step: int, values: Mapping[str, float]) -> None:
        self._write({"step": step, **values})

    def image(self, step: int, name: str, image: NDArray[np.uint8], caption: str) -> None:
        place = Path(self.path.stem) / f"{name.replace('/', '-')}-{step:06d}.png"
        write_bytes(self.path.parent / place, png(image))
        self._write({"step": step, "image": name, "file": str(place), "caption": caption})

    def close(self) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file that may end in the middle of one."""
    found: list[dict[str, Any]] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue  # torn by a kill
        if isinstance(line, dict):
            found.append(line)
    return found
