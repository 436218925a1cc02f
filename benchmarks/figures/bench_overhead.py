"""`bench-overhead`: the latency that the matrix reports over a loop written by hand around the same engine.

Both run in processes of their own, on the same core, in turns.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.base import Options, one_thread
from benchmarks.bundles import bundle
from edgepress.core.errors import EdgepressError
from edgepress.measure.cell import Cell, CellProcess
from edgepress.measure.rows import Row
from edgepress.measure.timing import pinned
from edgepress.runtime.bundle import read_manifest

LOOP = """
import json, sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = [1, *session.get_inputs()[0].shape[1:]]
feed = {session.get_inputs()[0].name: np.random.default_rng(0).standard_normal(shape, np.float32)}
for line in sys.stdin:
    times = []
    for number in range(int(line) + 5):
        begin = time.perf_counter()
        session.run(None, feed)
        if number >= 5:
            times.append(time.perf_counter() - begin)
    print(json.dumps(times), flush=True)
"""
TURNS, CALLS = 20, 100


def measure(options: Options) -> list[Row]:
    """Return the ratio of the medians, reported over hand-written, and both in microseconds."""
    folder = bundle(options)
    about = read_manifest(folder)
    turns = 3 if options.quick else TURNS
    cell = Cell("net", about.runtime, about.runtime, about.precision, 1, 1, folder)
    ratios, ours, theirs = list[float](), list[float](), list[float]()
    with pinned(1), CellProcess(cell, 60.0) as process, _loop(folder) as loop:
        assert loop.stdin is not None and loop.stdout is not None
        for turn in range(turns):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                if which:
                    loop.stdin.write(f"{CALLS}\n")
                    loop.stdin.flush()
                    line = loop.stdout.readline()
                    if not line:
                        raise EdgepressError("the hand-written loop ended early")
                    theirs.append(statistics.median(json.loads(line)))
                else:
                    ours.append(statistics.median(process.ask("time", calls=CALLS, warmup=5, seconds=30.0)["seconds"]))
            ratios.append(ours[-1] / theirs[-1])
        loop.stdin.close()
    more = {"n": turns * CALLS, "threads": 1, "batch": 1, "runtime": about.runtime, "precision": about.precision}
    return [
        options.row("bench-overhead", "ratio", statistics.median(ratios), "ratio", "lower", **more),
        options.row("bench-overhead", "reported_us", statistics.median(ours) * 1e6, "us", "", **more),
        options.row("bench-overhead", "by_hand_us", statistics.median(theirs) * 1e6, "us", "", **more),
    ]


def _loop(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOOP, str(folder / "model.onnx")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread())
