"""`python -m edgepress.measure.there FOLDER`: a matrix on a board, told line by line to the machine that asked for it.

`job.json` in the folder says what to measure. Results lie in the folder, too: when the link breaks, this process ends
at its next word, and the next one goes on where it was. Each line of standard output is a JSON object: `begin` with the
environment, `checked` and `turns` with records of the matrix, `said` with a remark, `done`.
"""

import argparse
import json
import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
EVERY = 0.5
"""Seconds between two looks at what was measured; looking costs next to nothing."""


class Teller:
    """Tells what is new in the store; a `Progress` that passes on what is said."""

    def __init__(self, store: Path, answers: Any) -> None:
        from edgepress.measure.matrix import FILES

        self._store, self._answers = store, answers
        self._told = dict.fromkeys(FILES, 0)
        self._guard, self._over = threading.Lock(), threading.Event()

    def track(self, steps: Iterable[T], total: int, label: str) -> Iterable[T]:
        """Return `steps` as they are."""
        self.say(f"{label} ({total})")
        return steps

    def status(self, text: str) -> None:
        """Say nothing: it is too much for a link."""

    def say(self, text: str) -> None:
        """Pass on a remark."""
        self.tell(said=text)

    def tell(self, **what: Any) -> None:
        """Write one line; end this process where nobody reads it."""
        with self._guard:
            try:
                self._answers.write(json.dumps(what) + "\n")
                self._answers.flush()
            except BrokenPipeError:
                os._exit(1)  # from whichever thread: the cells end with their standard input

    def watch(self) -> None:
        """Tell what is new, until `finish`."""
        while not self._over.wait(EVERY):
            self._news()

    def finish(self) -> None:
        """Tell the rest."""
        self._over.set()
        self._news()
        self.tell(done=True)

    def _news(self) -> None:
        from edgepress.measure.matrix import records

        for name in self._told:
            found = records(self._store / f"{name}.jsonl")
            for record in found[self._told[name] :]:
                self.tell(**{name: record})
            self._told[name] = len(found)


def main(arguments: list[str] | None = None) -> int:
    """Measure what `job.json` asks for."""
    parser = argparse.ArgumentParser(prog="python -m edgepress.measure.there", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder.expanduser()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to standard output as they like

    from edgepress.core.errors import EdgepressError
    from edgepress.core.files import lock
    from edgepress.measure import environment, matrix
    from edgepress.measure.cell import Cell
    from edgepress.measure.final import run_final
    from edgepress.measure.verdict import Budget

    job = json.loads((folder / "job.json").read_bytes())
    cells = [_here(Cell(**{**one, "folder": one["folder"] and folder / one["folder"]})) for one in job["cells"]]
    teller = Teller(folder, answers)
    try:
        with lock(folder, f"another process measures in {folder}; it ends when it notices that its link is gone"):
            teller.tell(begin=environment.environment())
            thread = threading.Thread(target=teller.watch, daemon=True)
            thread.start()
            settings = matrix.Settings(**job["settings"])
            matrix.run(cells, _judge(job["judge"], folder), settings, folder, teller)
            run_final(cells, Budget(**job["budget"]), settings, folder, teller)
            teller.finish()
    except EdgepressError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _here(cell: Any) -> Any:
    """Return `cell`, without its file where this machine has no engine for it."""
    from edgepress.measure.cell import EAGER
    from edgepress.runtime.engine import engines

    if cell.folder is None:
        return cell
    if cell.runtime == EAGER:
        reason = None if find_spec("torch") else "PyTorch is not installed on this machine"
    else:
        reason = engines.get(cell.runtime).available()
    return cell if reason is None else replace(cell, folder=None, reason=reason)


def _judge(about: dict[str, Any] | None, folder: Path) -> Any:
    import numpy as np

    from edgepress.measure.matrix import SEEN, TARGETS, Judge

    if about is None:
        return None
    references = {name: np.load(folder / file) for name, file in about["references"].items()}
    images, targets = (np.load(folder / file) for file in (SEEN, TARGETS))
    return Judge(images, targets, about["task"], about["classes"], references, about["layers"])


if __name__ == "__main__":
    raise SystemExit(main())
