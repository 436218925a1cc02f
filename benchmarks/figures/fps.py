"""`unet-0.3m-int8`: frames a second at 240x180 on one thread, from a uint8 frame to a class map of its size.

Initial weights: speed does not need trained ones. Beside it the same network in FP32 and Fast-SCNN.
"""

import statistics
import time
from typing import Any

import numpy as np

from benchmarks.base import Options
from benchmarks.scenes import SIZE, untrained
from edgepress.core.artifact import Program
from edgepress.export.onnx import export_onnx
from edgepress.measure.rows import Row
from edgepress.measure.timing import pinned
from edgepress.quantize.ptq import quantize
from edgepress.runtime.pipeline import Pipeline

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet-0.3m": ("unet", {"width": 12, "depth": 3, "stride": 2}),
    "fast_scnn-0.3m": ("fast_scnn", {"width": 0.5}),
}


def measure(options: Options) -> list[Row]:
    """Return frames a second of every network in FP32 and INT8, and the milliseconds of the network alone."""
    rng = np.random.default_rng(0)
    frames = np.clip(rng.normal(0, 40, (8, *SIZE, 3)).cumsum(1) / 8 + 128, 0, 255).astype(np.uint8)
    rows: list[Row] = []
    for name, (model, arguments) in NETWORKS.items():
        network = untrained(model, arguments)
        for precision, made in (("fp32", network), ("int8", quantize(network, frames))):
            rows += _rows(f"{name}-{precision}", export_onnx(made, frames[:2]), frames, options)
    return rows


def _rows(artifact: str, program: Program, frames: np.ndarray, options: Options) -> list[Row]:
    pipeline = Pipeline(program, threads=1)
    rounds, taken = 5 if options.quick else 100, list[float]()
    with pinned(1):
        for number in range(rounds + 5):
            frame = frames[number % len(frames)]
            begin = time.perf_counter()
            pipeline(frame)
            if number >= 5:
                taken.append(time.perf_counter() - begin)
    about = {"n": rounds, "threads": 1, "batch": 1, "runtime": program.runtime, "precision": program.precision}
    size = sum(map(len, program.files.values()))
    return [
        options.row(artifact, "fps", 1 / statistics.median(taken), "frames/s", "higher", **about),
        options.row(artifact, "bytes", size, "bytes", "lower", **about),
    ]
