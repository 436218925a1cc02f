"""The matrix: every cell checked in its own process, then all timed in turns, everything on disk as it is known.

A store is a folder: `checked.jsonl` holds one line per cell that was checked, `started.jsonl` one per process that was
started to be timed, `turns.jsonl` one per cell and turn, `finals.jsonl` the same of the few that were timed again
(`measure.final`). A matrix that was stopped goes on where it was; one that is complete measures nothing.
"""

import json
import os
import re
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
from edgepress.measure.cell import EAGER, Cell, CellError, CellProcess
from edgepress.measure.mistakes import mistakes
from edgepress.measure.timing import WIDE, Timing
from edgepress.tasks.base import tasks

Array = NDArray[Any]
TURNS, FINALS = "turns", "finals"
FILES = ("checked", "started", TURNS, FINALS)
"""The files of a store, each of one JSON object to a line."""

SEEN, TARGETS = "seen.npy", "targets.npy"
"""The images that cells are judged on, and what they show: beside a matrix."""

STARTED = ("load", "first_prediction", "peak_rss")
"""What a process knows when it has started. It starts twice: the second time, to be timed, the machine should be quiet,
and that is what counts."""

SETTLE = 0.05
"""Seconds of untimed calls before each turn of a cell: the cells before it have emptied the caches."""


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
    """Images `(N, height, width, channels)` and what outputs are held against.

    `references` are the outputs of the PyTorch networks that the files came from, by `network_of` their cells; `layers`
    the names of the layers of each artifact, in the order in which they are called.
    """

    images: Array
    targets: Array
    task: str
    classes: int
    references: dict[str, Array] = field(default_factory=dict[str, Array])
    layers: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


@dataclass(frozen=True)
class Result:
    """What is known of a cell. Milliseconds, megabytes (10^6 bytes), millijoules per call, percent; None where unknown.

    `error` says why the cell is empty, `energy_source` where its energy is from or why it has none. `turns` are the
    seconds of each timed call, turn by turn, `finals` those of the calls among the few files that may be shipped, by
    `occasion`. `layers` is what `profile.profile` found, `files` what `profile.layer_files` did, `wrong` what
    `mistakes.mistakes` did.
    """

    cell: Cell
    error: str = ""
    facts: dict[str, float] = field(default_factory=dict[str, float])
    energy_source: str = ""
    layers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    files: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    wrong: dict[str, Any] = field(default_factory=dict[str, Any])
    turns: list[list[float]] = field(default_factory=list[list[float]])
    finals: dict[str, list[list[float]]] = field(default_factory=dict[str, list[list[float]]])

    def final_ms(self, among: str) -> float | None:
        """The median latency on the `occasion` on which those files were timed once more, in milliseconds."""
        seconds = [second for turn in self.finals.get(among, []) for second in turn]
        return Timing(np.array(seconds)).ms(0.5) if seconds else None

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
    """Return how many times faster `after` is: the median over turns, in which both met the same machine. Of cells that
    did not fit into its memory together it is that of their medians."""
    found = ratios(before, after)
    if found:
        return float(np.median(found))
    return before.ms / after.ms if before.ms and after.ms else None


def ratios(before: Result, after: Result) -> list[float]:
    """Return of each turn that has both how many times faster `after` was."""
    return [float(np.median(a) / np.median(b)) for a, b in zip(before.turns, after.turns, strict=False) if a and b]


def run(cells: Sequence[Cell], judge: Judge | None, settings: Settings, store: Path, progress: Progress) -> None:
    """Check and time `cells` as far as `store` does not hold them already."""
    known = {record["cell"]: record for record in records(store / "checked.jsonl")}
    readers = {device: energy.find(device=device)[0] for device in {cell.device for cell in cells}}
    with tempfile.TemporaryDirectory(prefix="edgepress-") as temporary:
        images = Path(temporary) / "images.npy"
        if judge is not None:
            np.save(images, judge.images)
        waiting = [cell for cell in cells if cell.name not in known]
        for cell in progress.track(waiting, len(waiting), "checking"):
            progress.status(cell.name)
            record = check(cell, judge, images, settings, readers[cell.device])
            append(store / "checked.jsonl", record)
            known[cell.name] = record
            if record.get("error"):
                progress.say(f"{cell.name}: {record['error']}")
    good = [cell for cell in cells if not known[cell.name].get("error")]
    together = groups(good, {name: record["facts"]["peak_rss"] for name, record in known.items() if record["facts"]})
    for number, group in enumerate(together):
        time_in_turns(group, settings, store, progress, number * settings.turns)


def check(cell: Cell, judge: Judge | None, images: Path, settings: Settings, reader: Any) -> dict[str, Any]:
    """Return all about `cell` but its latency, as a JSON object; `error` where it is empty."""
    record = empty(cell)
    try:
        with CellProcess(cell, settings.limit) as process:
            facts: dict[str, float] = {name: process.started[name] for name in STARTED}
            facts["bytes"] = bytes_of(cell)
            if judge is not None:
                to = images.with_name("outputs.npy")
                seen: dict[str, Any] = {"left": 1}
                while seen["left"]:
                    seen = process.ask("outputs", images=str(images), to=str(to), seconds=settings.limit / 4)
                if seen["not_finite"]:
                    count, of = seen["not_finite"], seen["images"]
                    raise CellError(f"gives values that are not finite for {count} of {of} images")
                outputs = np.load(to)
                facts |= scores(cell, outputs, judge)
                other = judge.references.get(f"{cell.artifact} fp32")
                record["wrong"] = mistakes(judge.task, outputs, judge.targets, judge.classes, other)
            parts = process.ask("parts")
            facts["pre_post_share"] = 100 * (parts["pre"] + parts["post"]) / max(sum(parts.values()), 1e-9)
            used, record["energy_source"] = joules(process, settings, reader, cell.device)
            if used is not None:
                facts["energy"] = used * 1e3
            if settings.profile:
                found = process.ask("profile")
                names = judge.layers.get(cell.artifact, []) if judge is not None else []
                record |= {"layers": [named(one, names) for one in found["layers"]], "files": found["files"]}
            record["facts"] = facts
    except CellError as error:
        record["error"] = str(error)
    return record


def empty(cell: Cell, error: str = "") -> dict[str, Any]:
    """Return the record of a cell about which nothing is known but, maybe, an error."""
    return {
        "cell": cell.name, "error": error, "facts": {}, "energy_source": "", "layers": [], "files": [], "wrong": {},
    }  # fmt: skip


def bytes_of(cell: Cell) -> int:
    """Return the bytes of what a device would need: the files of a bundle, the weights of a network in PyTorch."""
    assert cell.folder is not None
    if cell.runtime == EAGER:
        return (cell.folder / "weights.safetensors").stat().st_size
    return sum(file.stat().st_size for file in cell.folder.iterdir() if file.name != "manifest.json")


def named(operation: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return an operation of a profile under the name of the layer it belongs to: the module's path where it is known,
    else "layer 3" for the third."""
    number = operation["layer"]
    if number is None:
        return operation
    return {**operation, "name": names[number] if number < len(names) else f"layer {number + 1}"}


def scores(cell: Cell, outputs: Array, judge: Judge) -> dict[str, float]:
    """Return the score, and the agreement with the network the file came from (`parity`) and with the float network
    (`agreement`), in percent."""
    task = tasks.get(judge.task)
    meter = task.meter(judge.classes)
    meter.update(outputs, judge.targets)
    found = {"score": float(meter.result()[task.main]), "images": float(len(outputs))}
    if (whole := f"{cell.artifact} fp32") in judge.references:
        meter = task.meter(judge.classes)
        meter.update(judge.references[whole], judge.targets)
        found["float_score"] = float(meter.result()[task.main])
    for name, network in (("parity", network_of(cell)), ("agreement", f"{cell.artifact} fp32")):
        if network in judge.references:
            found[name] = float(task.agreement(judge.references[network], outputs))
    return found


def network_of(cell: Cell) -> str:
    """Return the network a cell's file came from: "student fp32" for bf16 and w16a32, "student w8a8" for w8a8+bf16."""
    first = cell.precision.split("+")[0]
    return f"{cell.artifact} {first if re.fullmatch('w[2-8]a[2-8]', first) else 'fp32'}"


def joules(
    process: CellProcess, settings: Settings, reader: energy.Reader | None, device: str = "cpu"
) -> tuple[float | None, str]:
    """Return the joules of one call and their source; None, and why, where nothing tells. Processor time says nothing
    about what a graphics card drew, so only what runs on the processor is estimated."""
    done: dict[str, Any] = {}

    def work() -> None:
        done.update(process.ask("loop", seconds=settings.energy_seconds))

    if reader is not None:
        try:
            used = reader.measure(work)
        except energy.EnergyError as error:
            return None, f"{reader.name}: {error}"
    elif settings.tdp and device == "cpu":
        work()
        every = environment.physical_cores(cpus=range(os.cpu_count() or 1))
        used = energy.estimate(done["cpu"], done["seconds"], settings.tdp, every)
    else:
        return None, ""
    if used.joules <= 0:
        return None, f"{used.source} counted nothing"
    return used.joules / done["calls"], used.source


def groups(cells: Sequence[Cell], memory: dict[str, float]) -> list[list[Cell]]:
    """Return which cells are alive together: the same threads and batch, in half of the machine's memory.

    The first cell of a kind is timed in every group, so that all of them can be held against it.
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


def occasion(cells: Iterable[Cell]) -> str:
    """Return what tells the times of these cells among each other from those among others."""
    return " | ".join(sorted(cell.name for cell in cells))


def time_in_turns(
    cells: Sequence[Cell], settings: Settings, store: Path, progress: Progress, begin: int = 0, final: bool = False
) -> None:
    """Time `cells` against each other, A B C C B A, and write down each turn, the first as number `begin`; a cell that
    fails falls out. Only within a turn did cells meet the same machine."""
    file, among = (FINALS, {"among": occasion(cells)}) if final else (TURNS, {})
    kept = [record for record in records(store / f"{file}.jsonl") if among.items() <= record.items()]
    done = {(record["turn"], record["cell"]) for record in kept}
    turns = range(begin, begin + settings.turns)
    missing = [turn for turn in turns if any((turn, cell.name) not in done for cell in cells)]
    if not missing:
        return
    alive: dict[str, CellProcess] = {}
    each = -(-settings.calls // settings.turns)
    try:
        for cell in cells:
            try:
                alive[cell.name] = process = CellProcess(cell, settings.limit)
            except CellError as error:
                fail(cell, error, store, progress)
                continue
            if not final:
                about = {name: process.started[name] for name in STARTED}
                append(store / "started.jsonl", {"cell": cell.name, "facts": about})
        for turn in progress.track(missing, len(missing), f"timing {len(cells)} cells"):
            for cell in cells if turn % 2 == 0 else reversed(cells):
                if cell.name not in alive or (turn, cell.name) in done:
                    continue
                try:
                    seconds = min(10.0, settings.limit / 2) / settings.turns
                    timed = alive[cell.name].ask("time", calls=each, warmup=5, seconds=seconds, settle=SETTLE)
                except CellError as error:
                    alive.pop(cell.name).close()
                    fail(cell, error, store, progress)
                else:
                    record = {"turn": turn, "cell": cell.name, "seconds": timed["seconds"], **among}
                    append(store / f"{file}.jsonl", record)
    finally:
        for process in alive.values():
            process.close()


def fail(cell: Cell, error: CellError, store: Path, progress: Progress) -> None:
    """Write down that `cell` failed while it was timed."""
    append(store / "checked.jsonl", empty(cell, str(error)))
    progress.say(f"{cell.name}: {error}")


def results(cells: Iterable[Cell], store: Path) -> list[Result]:
    """Return what `store` holds of `cells`, in their order; a cell that was not reached has no facts."""
    checked = {record["cell"]: record for record in records(store / "checked.jsonl")}
    started = {record["cell"]: record["facts"] for record in records(store / "started.jsonl")}
    turns, finals = (records(store / f"{file}.jsonl") for file in (TURNS, FINALS))
    timed = _turns(turns)
    again = {among: _turns(of) for among, of in _by(finals, "among").items()}
    found: list[Result] = []
    for cell in cells:
        record = checked.get(cell.name, {"error": cell.reason or "not reached"})
        about = {name: value for name, value in record.items() if name != "cell"}
        if about.get("facts"):
            about["facts"] = {**about["facts"], **started.get(cell.name, {})}
        if not about.get("error"):
            about["turns"] = timed.get(cell.name, [])
            about["finals"] = {among: of[cell.name] for among, of in again.items() if cell.name in of}
        found.append(Result(cell, **about))
    return found


def _turns(found: Iterable[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """Return the seconds of the calls of each cell, turn by turn; a turn without it is empty."""
    by_cell = {name: {one["turn"]: one["seconds"] for one in of} for name, of in _by(found, "cell").items()}
    return {name: [mine.get(turn, []) for turn in range(max(mine) + 1)] for name, mine in by_cell.items()}


def _by(found: Iterable[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    sorted_: dict[str, list[dict[str, Any]]] = {}
    for record in found:
        sorted_.setdefault(record.get(key, ""), []).append(record)
    return sorted_


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
