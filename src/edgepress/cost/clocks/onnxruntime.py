"""Times on ONNX Runtime's CPU provider."""

import json
import tempfile
from pathlib import Path
from typing import Any

from edgepress.core.artifact import Program
from edgepress.cost.clocks.base import Clock, LayerFile, clocks, faster_half, repeated


@clocks.register("onnxruntime")
class OnnxRuntimeClock(Clock):
    """A kernel's time is that of ONNX Runtime's own profiler.

    It tells the kernel from the call around it, and from the reordering of memory at the edges of a file, which a layer
    within a network does not have.
    """

    def program(self, program: Program) -> Program:
        """Return `program` itself."""
        return program

    def kernel_ms(self, layer: LayerFile, threads: int) -> float:
        """Return the milliseconds of the kernels of `layer`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = f"{folder}/profile"
            session = onnxruntime.InferenceSession(layer.data, options, providers=["CPUExecutionProvider"])
            repeated(lambda: session.run(None, {"x": layer.images}))
            events = json.loads(Path(session.end_profiling()).read_bytes())
        return _kernel_ms(events)


def _kernel_ms(events: list[dict[str, Any]]) -> float:
    times: dict[str, list[float]] = {}
    for event in events:
        kernel = event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        if kernel and not event["args"]["op_name"].startswith("Reorder"):
            times.setdefault(event["name"], []).append(event["dur"])
    return sum(map(faster_half, times.values())) / 1e3
