"""The matrix: every cell checked in its own process, then all timed in turns, everything on disk as it is known.

A store is a folder: `checked.jsonl` holds one line per cell that was checked, `turns.jsonl` one per cell and turn. A
matrix that was stopped goes on where it was; one that is complete measures nothing.
"""

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.files import explain_disk
from edgepress.core.stage import Progress
from edgepress.measure import energy, environment
from edgepress.measure.cell import Cell, CellError, CellProcess
from edgepress.measure.timing import WIDE, Timing
from edgepress.tasks.base import tasks

Array = NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """How the matrix is measured: `turns` in which every cell is timed, `calls` of each in all, `limit` seconds for any
    answer of a cell, `energy_seconds` of calls under the energy reader, `tdp` watts for estimates (0 = none)."""

    turns: int = 10
    calls: int = 300
    limit: float = 120.0
    energy_seconds: float = 1.0
    tdp: float = 0.0
    profile: bool = True


@dataclass(frozen=True)
class Judge:
    """Images of the test split `(N, height, width, channels)` and what outputs are held against.

    `references` are the outputs of the PyTorch networks that the files came from, by `network_of` their cells.
    """

    images: Array
    targets: Array
    task: str
    classes: int
    references: dict[str, Array] = field(default_factory=dict[str, Array])


@dataclass(frozen=True)
class Result:
    """What is known of a cell. Milliseconds, megabytes (10^6 bytes), millijoules per call, percent; None where unknown.

    `error` says why the cell is empty. `turns` are the seconds of each timed call, turn by turn.
    """

    cell: Cell
    error: str = ""
    facts: dict[str, float] = field(default_factory=dict[str, float])
    energy_source: str = ""
    layers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    turns: list[list[float]] = field(default_factory=list[list[float]])

    @property
    def timing(self) -> Timing | None:
        """All timed calls, None where there are none."""
        seconds = [second for turn in self.turns for second in turn]
        return Timing(np.array(seconds)) if seconds else None

    @property
    def ms(self) -> float | None:
        """The median latency in milliseconds."""
        return self.timing.ms(0.5) if self.timing else None

    @property
    def restless(self) -> bool:
        """Whether the calls varied too much to tell cells a few percent apart."""
        return self.timing is not None and self.timing.spread > WIDE

    @property
    def estimated(self) -> bool:
        """Whether the energy is an estimate."""
        return self.energy_source.startswith("estimate")


def speedup(before: Result, after: Result) -> float | None:
    """Return how many times faster `after` is: the median over turns, in which both met the same machine."""
    ratios = [float(np.median(a) / np.median(b)) for a, b in zip(before.turns, after.turns, strict=False) if a and b]
    return float(np.median(ratios)) if ratios else None


def run(cells: Sequence[Cell], judge: Judge | None, settings: Settings, store: Path, progress: Progress) -> None:
    """Check and time `cells` as far as `store` does not hold them already."""
    known = {record["cell"]: record for record in records(store / "checked.jsonl")}
    reader = energy.find()[0]
    with tempfile.TemporaryDirectory(prefix="edgepress-") as temporary:
        images = Path(temporary) / "images.npy"
        if judge is not None:
            np.save(images, judge.images)
        waiting = [cell for cell in cells if cell.name not in known]
        for cell in progress.track(waiting, len(waiting), "checking"):
            progress.status(cell.name)
            record = check(cell, judge, images, settings, reader)
            append(store / "checked.jsonl", record)
            known[cell.name] = record
            if record.get("error"):
                progress.say(f"{cell.name}: {record['error']}")
    good = [cell for cell in cells if not known[cell.name].get("error")]
    for group in groups(good, {name: record["facts"]["peak_rss"] for name, record in known.items() if record["facts"]}):
        time_in_turns(group, settings, store, progress)


def check(cell: Cell, judge: Judge | None, images: Path, settings: Settings, reader: Any) -> dict[str, Any]:
    """Return all about `cell` but its latency, as a JSON object; `error` where it is empty."""
    record: dict[str, Any] = {"cell": cell.name, "error": "", "facts": {}, "energy_source": "", "layers": []}
    try:
        with CellProcess(cell, settings.limit) as process:
            facts: dict[str, float] = {name: process.started[name] for name in ("load", "first_prediction", "peak_rss")}
            assert cell.folder is not None
            facts["bytes"] = sum(file.stat().st_size for file in cell.folder.iterdir() if file.name != "manifest.json")
            if judge is not None:
                to = images.with_name("outputs.npy")
                seen = process.ask("outputs", images=str(images), to=str(to))
                if seen["not_finite"]:
                    count, of = seen["not_finite"], seen["images"]
                    raise CellError(f"gives values that are not finite for {count} of {of} images")
                facts |= scores(cell, np.load(to), judge)
            parts = process.ask("parts")
            facts["pre_post_share"] = 100 * (parts["pre"] + parts["post"]) / max(sum(parts.values()), 1e-9)
            used, source = joules(process, settings, reader)
            if used is not None:
                facts["energy"], record["energy_source"] = used * 1e3, source
            if settings.profile:
                record["layers"] = process.ask("profile")["layers"]
            record["facts"] = facts
    except CellError as error:
        record["error"] = str(error)
    return record


def scores(cell: Cell, outputs: Array, judge: Judge) -> dict[str, float]:
    """Return the score, and the agreement with the network the file came from (`parity`) and with the float network
    (`agreement`), in percent."""
    task = tasks.get(judge.task)
    meter = task.meter(judge.classes)
    meter.update(outputs, judge.targets)
    found = {"score": float(meter.result()[task.main]), "images": float(len(outputs))}
    for name, network in (("parity", network_of(cell)), ("agreement", f"{cell.artifact} fp32")):
        if network in judge.references:
            found[name] = float(task.agreement(judge.references[network], outputs))
    return found


def network_of(cell: Cell) -> str:
    """Return the network a cell's file came from: "student fp32" for bf16, "student w8a8" for w8a8+bf16."""
    first = cell.precision.split("+")[0]
    return f"{cell.artifact} {first if first.startswith('w') else 'fp32'}"


def joules(process: CellProcess, settings: Settings, reader: energy.Reader | None) -> tuple[float | None, str]:
    """Return the joules of one call and their source; None where nothing tells."""
    done: dict[str, Any] = {}

    def work() -> None:
        done.update(process.ask("loop", seconds=settings.energy_seconds))

    if reader is not None:
        used = reader.measure(work)
    elif settings.tdp:
        work()
        used = energy.estimate(done["cpu"], done["seconds"], settings.tdp, environment.physical_cores())
    else:
        return None, ""
    return used.joules / done["calls"], used.source


def groups(cells: Sequence[Cell], memory: dict[str, float]) -> list[list[Cell]]:
    """Return which cells are alive together: the same threads and batch, in half of the machine's memory.

    The first cell of a kind is in every group, so that all of them can be held against it.
    """
    room = max(environment.memory_bytes() / 2e6, 1000.0)
    made: list[list[Cell]] = []
    for about in dict.fromkeys((cell.threads, cell.batch) for cell in cells):
        alike = [cell for cell in cells if (cell.threads, cell.batch) == about]
        group: list[Cell] = []
        for cell in alike:
            if group and sum(memory[one.name] for one in group) + memory[cell.name] > room:
                made.append(group)
                group = [alike[0]]
            group.append(cell)
        made.append(group)
    return made


def time_in_turns(cells: Sequence[Cell], settings: Settings, store: Path, progress: Progress) -> None:
    """Time `cells` against each other, A B C C B A, and write down each turn; a cell that fails falls out."""
    done = {(record["turn"], record["cell"]) for record in records(store / "turns.jsonl")}
    missing = [turn for turn in range(settings.turns) if any((turn, cell.name) not in done for cell in cells)]
    if not missing:
        return
    alive: dict[str, CellProcess] = {}
    each = -(-settings.calls // settings.turns)
    try:
        for cell in cells:
            try:
                alive[cell.name] = CellProcess(cell, settings.limit)
            except CellError as error:
                fail(cell, error, store, progress)
        for turn in progress.track(missing, len(missing), f"timing {len(cells)} cells"):
            for cell in cells if turn % 2 == 0 else reversed(cells):
                if cell.name not in alive or (turn, cell.name) in done:
                    continue
                try:
                    seconds = min(10.0, settings.limit / 2) / settings.turns
                    timed = alive[cell.name].ask("time", calls=each, warmup=5, seconds=seconds)
                except CellError as error:
                    alive.pop(cell.name).close()
                    fail(cell, error, store, progress)
                else:
                    append(store / "turns.jsonl", {"turn": turn, "cell": cell.name, "seconds": timed["seconds"]})
    finally:
        for process in alive.values():
            process.close()


def fail(cell: Cell, error: CellError, store: Path, progress: Progress) -> None:
    """Write down that `cell` failed while it was timed."""
    append(
        store / "checked.jsonl",
        {"cell": cell.name, "error": str(error), "facts": {}, "energy_source": "", "layers": []},
    )
    progress.say(f"{cell.name}: {error}")


def results(cells: Iterable[Cell], store: Path) -> list[Result]:
    """Return what `store` holds of `cells`, in their order; a cell that was not reached has no facts."""
    checked = {record["cell"]: record for record in records(store / "checked.jsonl")}
    turns: dict[str, dict[int, list[float]]] = {}
    for record in records(store / "turns.jsonl"):
        turns.setdefault(record["cell"], {})[record["turn"]] = record["seconds"]
    found: list[Result] = []
    for cell in cells:
        record = checked.get(cell.name, {"error": cell.reason or "not reached"})
        about = {name: value for name, value in record.items() if name != "cell"}
        mine = turns.get(cell.name, {})
        seconds = [mine.get(number, []) for number in range(max(mine, default=-1) + 1)]
        found.append(Result(cell, **about, turns=[] if about.get("error") else seconds))
    return found


def records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file, without a last line that a crash tore."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line]


def append(path: Path, record: dict[str, Any]) -> None:
    """Add one object to a JSON-lines file: one write, behind a torn line if there is one, which is cut off."""
    with explain_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            file.seek(0)
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
            file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            file.flush()
