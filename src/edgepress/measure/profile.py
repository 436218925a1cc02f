"""Where the time goes: the operations of a bundle by its engine's own profiler, slowest first."""

import importlib
import json
import tempfile
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program
from edgepress.runtime.onnxruntime_engine import NOT_EXACT
from edgepress.runtime.packed import PACKED, PLAIN, onnx_file

CALLS = 20
MOST = 60
"""Operations listed; networks have more, but none of those takes a share that shows."""

Times = dict[tuple[str, str], float]
"""Seconds by the name of an operation and what computed it."""


def profile(program: Program, threads: int, images: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return the operations of `program` on `images`: `name`, `kind`, `share` of the time of all in percent, `ms` of a
    call, `layer`, which counts the layers of the file, None where the operation belongs to none.

    ONNX Runtime and OpenVINO have profilers that work everywhere; for other engines the list is empty.
    """
    readers = {"onnxruntime": _onnxruntime, "openvino": _openvino}
    reader = readers.get(program.runtime)
    if reader is None:
        return []
    times = reader(program, threads, images)
    total = sum(times.values()) or 1.0
    slowest = sorted(((key, taken) for key, taken in times.items() if taken), key=lambda item: -item[1])[:MOST]
    return [
        {"name": name, "kind": kind, "share": 100 * taken / total, "ms": taken / CALLS * 1e3, "layer": _layer(name)}
        for (name, kind), taken in slowest
    ]


def layer_files(program: Program) -> list[dict[str, Any]]:
    """Return `operation`, `shape` and `bytes` of every layer of an ONNX file, in order; an empty list where the file is
    none, or nothing here reads it."""
    if not {PLAIN, PACKED}.intersection(program.files) or find_spec("onnx") is None:
        return []
    from edgepress.export.labels import layers_of

    return [{"operation": f.operation, "shape": list(f.shape), "bytes": f.bytes} for f in layers_of(onnx_file(program))]


def _layer(name: str) -> int | None:
    if find_spec("onnx") is None:
        return None
    from edgepress.export.labels import layer_of

    return layer_of(name)


def _onnxruntime(program: Program, threads: int, images: NDArray[np.float32]) -> Times:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    data = onnx_file(program)
    if find_spec("onnx") is not None:
        from edgepress.export.labels import labelled

        data = labelled(data)
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(NOT_EXACT)
        )
        feed = {session.get_inputs()[0].name: images}
        for _ in range(CALLS):
            session.run(None, feed)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_bytes())
    times: Times = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            name = str(event["name"]).removesuffix("_kernel_time")
            times[name, str(event["args"].get("op_name", ""))] += float(event["dur"]) / 1e6
    return times


def _openvino(program: Program, threads: int, images: NDArray[np.float32]) -> Times:
    from edgepress.runtime.openvino_engine import OpenVinoEngine

    session = OpenVinoEngine().open(program, threads, profile=True)
    times: Times = defaultdict(float)
    for _ in range(CALLS):
        session(images)
        for info in session.request().get_profiling_info():
            times[info.node_name, info.exec_type] += info.real_time.total_seconds()
    return times
