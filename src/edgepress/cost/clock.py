"""How long a call of an exported file takes on a runtime."""

import time
from typing import Any

import numpy as np

from edgepress.core.artifact import Builder, Model, Program, Signature
from edgepress.cost.clocks.base import clocks
from edgepress.export.onnx import FILE, to_onnx
from edgepress.runtime.predictor import EnginePredictor

QUARTILE = 0.25
"""Of the measured times. Other work on the machine only ever adds, so the middle of the faster half is steadier than
the median of all."""


def export_file(module: Any, signature: Signature) -> bytes:
    """Return the exported FP32 file of `module`."""
    return to_onnx(Model(module, Builder(type(module).__name__), signature))


def time_file(data: bytes, signature: Signature, runtime: str, threads: int, batch: int, seconds: float = 1.5) -> float:
    """Return the milliseconds (see `QUARTILE`) of a call of the exported ONNX file `data` on `runtime`."""
    program = clocks.get(runtime)().program(Program(signature, "onnxruntime", "fp32", {FILE: data}))
    run = EnginePredictor(program, threads).run
    images = np.random.default_rng(0).standard_normal((batch, *signature.input.shape), dtype=np.float32)
    taken: list[float] = []
    started = time.perf_counter()
    run(images)
    while len(taken) < 20 or (time.perf_counter() - started < seconds and len(taken) < 2000):
        before = time.perf_counter()
        run(images)
        taken.append(time.perf_counter() - before)
        if len(taken) >= 5 and time.perf_counter() - started > 20 * seconds:
            break
    return float(np.quantile(taken[min(5, len(taken) // 2) :], QUARTILE)) * 1e3
