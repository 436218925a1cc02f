"""How long things take on a runtime: a single layer, of widths no network has yet, and a whole exported file."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.core.artifact import Builder, Model, Program, Signature
from edgepress.core.registry import Registry
from edgepress.cost.shapes import Shape
from edgepress.export.onnx import FILE, IR_VERSION, OPSET, to_onnx
from edgepress.runtime.predictor import EnginePredictor

LayerClock = Callable[[Shape, int, int, int, int], float]
"""Called with a shape, inputs, outputs, threads and batch; returns the milliseconds the kernel of that layer takes."""

layer_clocks: Registry[LayerClock] = Registry("layer clock", ("edgepress.cost.clock",))

RUNS, SECONDS = 30, 0.3
QUARTILE = 0.25
"""Of the measured times. Other work on the machine only ever adds, so the middle of the faster half is steadier than
the median of all."""


@layer_clocks.register("onnxruntime")
def onnxruntime_layer(shape: Shape, inputs: int, outputs: int, threads: int, batch: int) -> float:
    """Return the milliseconds of one layer by ONNX Runtime's own profiler.

    The profiler tells the kernel from the call around it, and from the reordering of memory at the edges of a file,
    which a layer within a network does not have. A layer of another kind than "conv" or "linear" counts as nothing.
    """
    import onnxruntime

    if shape.kind not in ("conv", "linear"):
        return 0.0
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        data, size = _file(shape, inputs, outputs, batch)
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        given = {"x": np.random.default_rng(0).standard_normal(size, dtype=np.float32)}
        started = time.perf_counter()
        for count in range(RUNS + 3):
            session.run(None, given)
            if count >= 5 and time.perf_counter() - started > SECONDS:
                break
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return _kernel_ms(events)


def _kernel_ms(events: list[dict[str, Any]]) -> float:
    times: dict[str, list[float]] = {}
    for event in events:
        kernel = event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        if kernel and not event["args"]["op_name"].startswith("Reorder"):
            times.setdefault(event["name"], []).append(event["dur"])
    # Whole microseconds: the mean of the faster half is finer than any quantile.
    halves = [sorted(found[3:] or found) for found in times.values()]
    return sum(float(np.mean(half[: (len(half) + 1) // 2])) for half in halves) / 1e3


def _file(shape: Shape, inputs: int, outputs: int, batch: int) -> tuple[bytes, tuple[int, ...]]:
    """Return an ONNX file with this one layer and a ReLU (which is fused into it), and the size of its input."""
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    if shape.kind == "linear":
        size: tuple[int, ...] = (batch * shape.height, inputs)
        weights = rng.standard_normal((inputs, outputs), dtype=np.float32)
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    else:
        groups = {"full": 1, "depthwise": inputs}.get(shape.grouping) or int(shape.grouping)
        size = (batch, inputs, shape.height, shape.width)
        weights = rng.standard_normal((outputs, inputs // groups, *shape.kernel), dtype=np.float32)
        keywords = {
            "kernel_shape": shape.kernel,
            "strides": shape.stride,
            "pads": [*shape.padding, *shape.padding],
            "dilations": shape.dilation,
            "group": groups,
        }
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"], **keywords), helper.make_node("Relu", ["c"], ["y"])]
    tensors = [
        helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True),
        helper.make_tensor("b", TensorProto.FLOAT, (outputs,), np.zeros(outputs, np.float32).tobytes(), raw=True),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString(), size


def export_file(module: Any, signature: Signature) -> bytes:
    """Return the exported FP32 file of `module`."""
    return to_onnx(Model(module, Builder(type(module).__name__), signature))


def time_file(data: bytes, signature: Signature, runtime: str, threads: int, batch: int, seconds: float = 1.5) -> float:
    """Return the milliseconds (see `QUARTILE`) of a call of the exported file `data` on `runtime`."""
    program = Program(signature, runtime, "fp32", {FILE: data})
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
