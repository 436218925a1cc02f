"""A clock: how long a single layer takes on a runtime, of widths no network has yet, and what a whole file runs as."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program
from edgepress.core.registry import Registry

if TYPE_CHECKING:
    from edgepress.cost.shapes import Shape

RUNS, SECONDS, WARM = 30, 0.3, 3


class Clock(ABC):
    """Times on one runtime. A layer of another kind than "conv" or "linear" counts as nothing."""

    @abstractmethod
    def program(self, program: Program) -> Program:
        """Return an ONNX program as what this runtime runs."""

    @abstractmethod
    def kernel_ms(self, layer: "LayerFile", threads: int) -> float:
        """Return the milliseconds of the kernel of `layer` alone, without the call around it."""

    def layer_ms(self, shape: "Shape", inputs: int, outputs: int, threads: int, batch: int) -> float:
        """Return the milliseconds of a layer of this shape with so many inputs and outputs."""
        if shape.kind not in ("conv", "linear"):
            return 0.0
        return self.kernel_ms(layer_file(shape, inputs, outputs, batch), threads)


clocks: Registry[type[Clock]] = Registry("runtime of a budget", ("edgepress.cost.clocks",))


class LayerFile(NamedTuple):
    """An ONNX file of one layer and a ReLU, which is fused into it, and an input for it."""

    data: bytes
    images: NDArray[np.float32]


def layer_file(shape: "Shape", inputs: int, outputs: int, batch: int) -> LayerFile:
    """Return a file with this layer, its weights random."""
    from onnx import TensorProto, helper

    from edgepress.export.onnx import IR_VERSION, OPSET

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
    data = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
    return LayerFile(data, np.random.default_rng(0).standard_normal(size, dtype=np.float32))


def repeated(run: Callable[[], object]) -> None:
    """Call `run` as often as a kernel is timed; the first `WARM` calls are for the caches."""
    started = time.perf_counter()
    for count in range(RUNS + WARM):
        run()
        if count >= WARM + 2 and time.perf_counter() - started > SECONDS:
            break


def faster_half(microseconds: list[float]) -> float:
    """Return the mean of the faster half of whole microseconds, after the first `WARM`: finer than any quantile."""
    half = sorted(microseconds[WARM:] or microseconds)
    return float(np.mean(half[: (len(half) + 1) // 2]))
