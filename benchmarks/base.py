"""What every figure shares: where things lie, how a row is filled in, how a topic is run from the command line."""

import argparse
import contextlib
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgepress.core.errors import ConfigError, EdgepressError, UnknownNameError
from edgepress.measure import environment
from edgepress.measure.rows import Better, Row, merge_csv
from edgepress.measure.timing import pinned

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / "scratch"
RECIPES = ROOT / "benchmarks" / "recipes"
ZOO = ROOT / "zoo"


@dataclass(frozen=True)
class Options:
    """How figures are made. `quick` is a trial of the script in seconds, whose rows stay in `benchmarks/scratch`.

    `parts` are those of a figure that are asked for, such as a network or a pair; none means all.
    """

    topic: str
    figure: str = ""
    quick: bool = False
    jobs: int = 2
    seeds: tuple[int, ...] = (0, 1, 2)
    parts: tuple[str, ...] = ()

    def wanted(self, known: Sequence[str]) -> list[str]:
        """Return those of the `known` parts of a figure that are asked for, in their own order.

        Raises `UnknownNameError` with the nearest name.
        """
        for name in self.parts:
            if name not in known:
                raise UnknownNameError(f"part of the figure {self.figure!r}", name, known)
        return [name for name in known if name in self.parts or not self.parts]

    @property
    def work(self) -> Path:
        """The folder for what may be made again; a trial has its own, so that it spoils nothing."""
        return WORK / "quick" if self.quick else WORK

    @property
    def results(self) -> Path:
        """The CSV file the rows go to."""
        return (self.work if self.quick else ROOT / "benchmarks" / "results") / f"{self.topic}.csv"

    @property
    def command(self) -> str:
        """The command that makes this figure again."""
        words = ["python", "-m", f"benchmarks.{self.topic}", "--only", self.figure]
        if self.seeds != Options.seeds:
            words += ["--seeds", ",".join(str(seed) for seed in self.seeds)]
        if self.parts:
            words += ["--parts", ",".join(self.parts)]
        return " ".join(words + (["--quick"] if self.quick else []))

    def row(self, artifact: str, metric: str, value: float, unit: str, better: Better, **more: Any) -> Row:
        """Return a row that says where, when and how it was measured."""
        about: dict[str, Any] = {
            "versions": environment.versions(),
            "machine": environment.machine(),
            "commit": environment.commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "command": self.command,
        }
        return Row(artifact, metric, float(value), unit, better, **{**about, **more})


def main(topic: str, figures: Sequence[str], arguments: Sequence[str] | None = None) -> int:
    """Make the `figures` of `topic` (all, or those asked for) and merge each one's rows into its CSV file at once."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{topic}", description=f"Remake results/{topic}.csv.")
    parser.add_argument("--only", default="", metavar="A,B", help=f"some of: {', '.join(figures)}")
    parser.add_argument(
        "--quick", action="store_true", help="try the script in seconds; rows go to benchmarks/scratch/quick"
    )
    parser.add_argument("--jobs", type=int, default=environment.physical_cores(), help="processes at a time")
    parser.add_argument("--seeds", type=_seeds, default=Options.seeds, metavar="0,1", help="the seeds of a training")
    parser.add_argument(
        "--parts", type=_names, default=(), metavar="A,B", help="of a figure only these networks or pairs"
    )
    given = parser.parse_args(arguments)
    try:
        for name in chosen(given.only, figures):
            begin = time.monotonic()
            options = Options(topic, name, given.quick, max(1, given.jobs), given.seeds, given.parts)
            figure = importlib.import_module(f"benchmarks.figures.{name.replace('-', '_')}")
            if options.parts and "PARTS" not in vars(figure):
                raise ConfigError(
                    f"the figure {name!r} is made as a whole: leave --parts out, or name others with --only"
                )
            rows = figure.measure(options)
            merge_csv(options.results, rows)
            for row in rows:
                print(f"{row.artifact:28} {row.metric:24} {row.value:12.5g} {row.unit}")
            print(f"-- {name}: {len(rows)} rows in {time.monotonic() - begin:.0f} s, {options.results}", flush=True)
    except EdgepressError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def chosen(only: str, figures: Sequence[str]) -> list[str]:
    """Return the figures that the text `only` names ("" = all); raise `UnknownNameError` with the nearest name."""
    names = list(_names(only)) or list(figures)
    for name in names:
        if name not in figures:
            raise UnknownNameError("figure", name, figures)
    return names


def one_thread(**more: str) -> dict[str, str]:
    """Return the environment of a child process whose libraries use one thread each, and which finds our sources."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core for the block, and PyTorch at one thread: two on one core wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pinned(1):
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def terminated_at_exit(processes: list[subprocess.Popen[Any]]) -> Iterator[None]:
    """Leave none of `processes` behind when the block ends by Ctrl-C or an error."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait()
