"""`predictor`: what `EnginePredictor.run` costs over a bare `session.run` for one pre-processed array.

Both call the very same ONNX Runtime session, so that neither an option nor the luck of a memory layout tells them
apart; calls alternate, on one pinned core.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import onnxruntime

from benchmarks.base import Options
from benchmarks.bundles import bundle
from edgepress.core.artifact import Program
from edgepress.measure.rows import Row
from edgepress.measure.timing import pinned
from edgepress.runtime.bundle import read_bundle
from edgepress.runtime.onnxruntime_engine import OnnxRuntimeSession
from edgepress.runtime.predictor import EnginePredictor

ROUNDS = 5000


def measure(options: Options) -> list[Row]:
    """Return `overhead` in percent, `overhead_us` in microseconds, and the bare call's time."""
    program = read_bundle(bundle(options))
    with pinned(1):
        ours, bare = alternate(*calls(program), rounds=200 if options.quick else ROUNDS)
    about = {
        "n": len(bare),
        "threads": 1,
        "batch": 1,
        "runtime": program.runtime,
        "precision": program.precision,
    }
    mine, theirs = statistics.median(ours), statistics.median(bare)
    return [
        options.row("predictor", "overhead", (mine / theirs - 1) * 100, "%", "lower", **about),
        options.row("predictor", "overhead_us", (mine - theirs) / 1e3, "us", "lower", **about),
        options.row("predictor", "bare_us", theirs / 1e3, "us", "", **about),
    ]


def calls(program: Program) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the two ways to run `program` on the same array: ours and the bare one."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(program.files["model.onnx"], settings, providers=["CPUExecutionProvider"])
    predictor = EnginePredictor(program, threads=1)
    predictor.session = OnnxRuntimeSession(session, program.signature)
    array = np.random.default_rng(0).standard_normal((1, *program.signature.input.shape), np.float32)
    name = session.get_inputs()[0].name
    return lambda: predictor.run(array), lambda: session.run(None, {name: array})


def alternate(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[list[int], list[int]]:
    """Return the nanoseconds of `rounds` calls of each, in turns; who goes first changes every round."""
    clock, times = time.perf_counter_ns, ([], [])
    for number in range(rounds + 50):
        order = ((0, first), (1, second)) if number % 2 else ((1, second), (0, first))
        for place, call in order:
            begin = clock()
            call()
            taken = clock() - begin
            if number >= 50:
                times[place].append(taken)
    return times
