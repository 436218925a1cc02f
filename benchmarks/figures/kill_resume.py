"""`kill-resume`: a recipe killed by SIGKILL at a random instant and started again ends as an undisturbed run does.

One kill per trial, its instant drawn from one twentieth of the undisturbed time each, so that together they cover all
of it; every second trial is killed once more. Compared are the bytes of weights and exported files, the training logs,
and every row's value. Runs are forked from a server that has imported torch, or starting would take most of the time.

The choice of precision is a measurement of the machine, kept in the cache: all runs use that of the undisturbed one.
Checkpoints are written three times a second (normally every 30 s), so that kills land between them within an epoch.
"""

import contextlib
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from benchmarks.base import RECIPES, Options
from edgepress.core.errors import EdgepressError
from edgepress.core.files import sha256
from edgepress.measure.rows import Row, read_rows

TRIALS = 20
LONGEST = 300.0
PRELOAD = [
    "benchmarks.job",
    "edgepress.train.run",
    "edgepress.train.objectives.kd",
    "edgepress.models.predictor",
    "edgepress.quantize.ptq",
    "edgepress.export.onnx",
    "edgepress.runtime.predictor",
    "onnxruntime",
    "onnxscript",
    "pyarrow",
]

Snapshot = dict[str, str]


@dataclass(frozen=True)
class Trial:
    """How one disturbed run went: where each kill fell, and what differs from the undisturbed run (nothing: good)."""

    kills: tuple[str, ...]
    differences: tuple[str, ...]


def measure(options: Options) -> list[Row]:
    """Return `identical`, a count, with the number of trials as `n`, and where the kills fell."""
    folder, trials = options.work / "kill-resume", 3 if options.quick else TRIALS
    shutil.rmtree(folder, ignore_errors=True)
    with _one_thread_each():
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(PRELOAD)
        judge = Judge(server, folder, options)
        judge.undisturbed()
        print(f"  undisturbed: {judge.seconds:.1f} s", flush=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            done = list(pool.map(judge.trial, range(trials), [trials] * trials))
    places = Counter(place for trial in done for place in trial.kills)
    identical = sum(not trial.differences for trial in done)
    rows = [options.row("kill-resume", "identical", identical, "runs", "higher", n=trials, threads=1)]
    rows += [
        options.row("kill-resume", f"kills_{place}", count, "kills", "", n=sum(places.values()))
        for place, count in sorted(places.items())
    ]
    return rows


class Judge:
    """Runs the recipe undisturbed, then disturbed, and compares."""

    def __init__(self, server: ForkServerContext, folder: Path, options: Options) -> None:
        self.server, self.folder, self.options = server, folder, options
        self.seconds = 0.0
        self.expected: Snapshot = {}

    def undisturbed(self) -> None:
        """Run once alone, then as many at a time as there will be: for the time it takes, and to check ourselves."""
        self._run(self.folder / "reference", None)
        self.expected = snapshot(self.folder / "reference")
        with ThreadPoolExecutor(self.options.jobs) as pool:
            again = [self._fresh(f"undisturbed-{number}") for number in range(self.options.jobs)]
            begin = time.monotonic()
            list(pool.map(self._run, again, [None] * len(again)))
            self.seconds = time.monotonic() - begin
        for runs in again:
            if wrong := differences(self.expected, snapshot(runs)):
                raise EdgepressError(f"two undisturbed runs differ in {', '.join(wrong)}: nothing to compare with")

    def trial(self, number: int, trials: int) -> Trial:
        """Kill a run once or twice at random instants, let it end, and compare."""
        rng, runs = random.Random(number), self._fresh(f"trial-{number:02d}")
        latest, kills = self.seconds, list[str]()
        while not kills:  # a run that was quicker than its kill starts over, to be killed a little earlier
            shutil.rmtree(runs)
            self._fresh(runs.name)
            instant = (number + rng.random()) / trials * latest
            if self._run(runs, instant):
                kills.append(place_of(runs / "log.txt"))
            latest *= 0.95
        if number % 2 and self._run(runs, rng.random() * self.seconds):
            kills.append(place_of(runs / "log.txt"))
        self._run(runs, None)
        wrong = tuple(differences(self.expected, snapshot(runs)))
        print(f"  trial {number + 1}: killed in {', '.join(kills)}; {', '.join(wrong) or 'identical'}", flush=True)
        if not wrong:
            shutil.rmtree(runs)
        return Trial(tuple(kills), wrong)

    def _fresh(self, name: str) -> Path:
        runs = self.folder / name
        shutil.copytree(self.folder / "reference" / "cache" / "precision", runs / "cache" / "precision")
        return runs

    def _run(self, runs: Path, instant: float | None) -> bool:
        """Run the recipe in `runs`; return whether it was killed, `instant` seconds after its start."""
        process = self.server.Process(target=attempt, args=(str(runs), self.options.quick))
        process.start()
        process.join(LONGEST if instant is None else instant)
        killed = process.is_alive()
        if killed:
            process.kill()
            process.join()
        if killed and instant is None:
            raise EdgepressError(f"a run took more than {LONGEST:.0f} s, see {runs / 'log.txt'}")
        if process.exitcode not in (0, -9):
            raise EdgepressError(f"a run failed (exit code {process.exitcode}), see {runs / 'log.txt'}")
        return killed


def attempt(runs: str, quick: bool) -> None:
    """Run the recipe to its end, as a process of its own."""
    import torch

    from benchmarks.job import patiently, recipe
    from edgepress.recipes.runner import Options as RunOptions
    from edgepress.train import training

    folder = Path(runs)
    folder.mkdir(parents=True, exist_ok=True)
    sys.stdout = sys.stderr = open(folder / "log.txt", "a", buffering=1)  # noqa: SIM115  (open as long as the process)
    torch.set_num_threads(1)
    training.CHECKPOINT_SECONDS = 0.3
    # Patience covers the instant in which a killed process still holds its locks.
    patiently(recipe(RECIPES / "kill-resume.yaml", [], quick), folder, RunOptions())


def snapshot(runs: Path) -> Snapshot:
    """Return what must be identical, by name: digests of files, records of epochs, values of rows."""
    found: Snapshot = {}
    for shelf in sorted(p.parent for p in runs.glob("*-*/done")):
        for path in [*shelf.glob("*.safetensors"), *shelf.glob("structure.json"), *shelf.glob("bundle/*")]:
            found[str(path.relative_to(runs))] = sha256(path)
        if (shelf / "log.jsonl").exists():
            records = [json.loads(line) for line in (shelf / "log.jsonl").read_text().splitlines()]
            timeless = [{k: v for k, v in record.items() if k != "images_per_second"} for record in records]
            found[f"{shelf.name}/log.jsonl"] = json.dumps(timeless)
        for path in sorted(shelf.glob("rows/*.jsonl")):
            for row in read_rows(path):
                found[f"{shelf.name}/{path.stem}/{row.metric}"] = repr((row.value, row.n, row.split, row.precision))
    return found


def differences(expected: Snapshot, given: Snapshot) -> list[str]:
    """Return the names under which the two differ."""
    return [name for name in sorted({*expected, *given}) if expected.get(name) != given.get(name)]


def place_of(log: Path) -> str:
    """Return the kind of stage that was running when a run with this log was killed, "between" where none was."""
    place = "between"
    for line in log.read_text().splitlines() if log.exists() else []:
        if begun := re.fullmatch(r"\S+: (train|distill|quantize|export)", line):
            place = begun[1]
        elif re.match(r"\S+: (done in|kept) ", line):
            place = "between"
    return place


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read when the server of forks imports torch
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
