"""Where the time goes: the slowest operations of a bundle by its engine's own profiler."""

import importlib
import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program
from edgepress.runtime.packed import onnx_file

CALLS = 20
MOST = 5


@dataclass(frozen=True)
class Layer:
    """An operation, what computed it, and its share of the time of all operations in percent."""

    name: str
    kind: str
    share: float


def profile(program: Program, threads: int, images: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return the slowest operations of `program` on `images`, slowest first, as `Layer` fields.

    ONNX Runtime and OpenVINO have profilers that work everywhere; for other engines the list is empty.
    """
    readers = {"onnxruntime": _onnxruntime, "openvino": _openvino}
    reader = readers.get(program.runtime)
    if reader is None:
        return []
    times = reader(program, threads, images)
    total = sum(times.values()) or 1.0
    slowest = sorted(times.items(), key=lambda item: -item[1])[:MOST]
    return [{"name": name, "kind": kind, "share": 100 * taken / total} for (name, kind), taken in slowest]


def _onnxruntime(program: Program, threads: int, images: NDArray[np.float32]) -> dict[tuple[str, str], float]:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(onnx_file(program), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: images}
        for _ in range(CALLS):
            session.run(None, feed)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_bytes())
    times: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            name = str(event["name"]).removesuffix("_kernel_time")
            times[name, str(event["args"].get("op_name", ""))] += float(event["dur"])
    return times


def _openvino(program: Program, threads: int, images: NDArray[np.float32]) -> dict[tuple[str, str], float]:
    from edgepress.runtime.openvino_engine import OpenVinoEngine

    session = OpenVinoEngine().open(program, threads, profile=True)
    times: dict[tuple[str, str], float] = defaultdict(float)
    for _ in range(CALLS):
        session(images)
        for info in session.request().get_profiling_info():
            times[info.node_name, info.exec_type] += info.real_time.total_seconds()
    return times
