"""How long a call of an exported file takes on a runtime."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgepress.core.artifact import Builder, Model, Program, Signature
from edgepress.cost.clocks.base import clocks
from edgepress.export.onnx import FILE, to_onnx
from edgepress.runtime.predictor import EnginePredictor

QUARTILE = 0.25
"""Of the measured times. Other work on the machine only ever adds, so the middle of the faster half is steadier than
the median of all."""

WARM, TURN = 3, 10
"""Untimed and timed calls of a file in one turn: behind another file the first calls find the caches empty, and a small
file called in turn with a large one, call by call, was 8 % slower than by itself."""

LEAST, MOST = 20, 2000
"""Timed calls of a file."""


def export_file(module: Any, signature: Signature) -> bytes:
    """Return the exported FP32 file of `module`."""
    return to_onnx(Model(module, Builder(type(module).__name__), signature))


def time_file(data: bytes, signature: Signature, runtime: str, threads: int, batch: int, seconds: float = 1.5) -> float:
    """Return the milliseconds (see `QUARTILE`) of a call of the exported ONNX file `data` on `runtime`."""
    return time_files([data], signature, runtime, threads, batch, seconds)[0]


def time_files(
    files: Sequence[bytes], signature: Signature, runtime: str, threads: int, batch: int, seconds: float = 1.5
) -> list[float]:
    """Return the milliseconds of a call of each of `files`, run in turns for about so many seconds each."""
    clock = clocks.get(runtime)()
    programs = [clock.program(Program(signature, "onnxruntime", "fp32", {FILE: data})) for data in files]
    runs = [EnginePredictor(program, threads).run for program in programs]
    images = np.random.default_rng(0).standard_normal((batch, *signature.input.shape), dtype=np.float32)
    taken: list[list[float]] = [[] for _ in files]
    started = time.perf_counter()
    while len(taken[-1]) < LEAST or (time.perf_counter() - started < seconds * len(files) and len(taken[-1]) < MOST):
        for run, times in zip(runs, taken, strict=True):
            for count in range(WARM + TURN):
                before = time.perf_counter()
                run(images)
                if count >= WARM:
                    times.append(time.perf_counter() - before)
        if time.perf_counter() - started > 20 * seconds:
            break
    return [float(np.quantile(times, QUARTILE)) * 1e3 for times in taken]
