"""What it takes to start: time and memory of a fresh process that does nothing but load a bundle and predict."""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepress.core.artifact import Artifact, Program
from edgepress.core.errors import EdgepressError
from edgepress.measure.base import Measure, MeasureContext, measures
from edgepress.measure.rows import Row


@measures.register("load")
@dataclass(frozen=True)
class Load(Measure):
    """`load` and `first_prediction` in ms since the process was started, interpreter and imports included, and
    `peak_rss` in MB (10^6 bytes): medians over `repeats` processes. Models have no bundle and get no rows."""

    threads: int = 1
    repeats: int = 3
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if min(self.threads, self.repeats) < 1 or self.seconds <= 0:
            raise ValueError("threads and repeats must be at least 1, seconds above 0")

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return the three rows; raise `EdgepressError` where the process fails or hangs."""
        if not isinstance(artifact, Program):
            return []
        with _folder(artifact, ctx.bundle) as folder:
            found = [fresh(folder, self.threads, self.seconds) for _ in range(self.repeats)]
        about = {"n": self.repeats, "threads": self.threads, "batch": 1}
        rows: list[Row] = []
        for metric, unit in (("load", "ms"), ("first_prediction", "ms"), ("peak_rss", "MB")):
            values = [one[metric] for one in found]
            p50, p99 = (float(np.quantile(values, q)) for q in (0.5, 0.99))
            rows.append(ctx.row(artifact, metric, p50, unit, "lower", p50=p50, p99=p99, **about))
        return rows


def fresh(folder: Path, threads: int = 1, seconds: float = 60.0) -> dict[str, float]:
    """Return what one fresh process that runs the bundle in `folder` reports: `load`, `first_prediction` (ms),
    `peak_rss` (MB). Raises `EdgepressError` with the end of its output where it fails or takes over `seconds`."""
    started = time.monotonic_ns()
    command = [sys.executable, "-m", "edgepress.measure.fresh", str(folder)]
    command += ["--threads", str(threads), "--since", str(started)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise EdgepressError(f"a fresh process that runs {folder} gave no answer in {seconds:g} s") from None
    if done.returncode != 0:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise EdgepressError(f"a fresh process that runs {folder} failed ({how}):\n{last}")
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


@contextlib.contextmanager
def _folder(program: Program, bundle: Path | None) -> Iterator[Path]:
    if bundle is not None:
        yield bundle
        return
    from edgepress.runtime.bundle import save_bundle

    with tempfile.TemporaryDirectory(prefix="edgepress-") as temporary:
        folder = Path(temporary) / "bundle"
        save_bundle(program, folder)
        yield folder
