"""The engine `onnxruntime`: one ONNX file on the CPU."""

import importlib
import importlib.util
import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, DataError, MissingExtraError
from edgepress.runtime.engine import Engine, Session, engines
from edgepress.runtime.hardware import HardwareWarning, explain, may_saturate
from edgepress.runtime.onnx_wire import refuse_external_data
from edgepress.runtime.packed import onnx_file

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}
_FLOAT32 = np.dtype(np.float32)


NOT_EXACT = ("DoubleQDQPairsRemover",)
"""Optimizations that change what a file computes: this one leaves out a rounding that another follows, and an INT8
NASNet then decides otherwise on one image in twenty."""


class OnnxRuntimeSession(Session):
    """A network with one image input and one output. May be called from several threads at once."""

    def __init__(self, inference: Any, signature: Signature) -> None:
        """Take an `onnxruntime.InferenceSession`; raise `BundleError` where it does not fit `signature`."""
        name, shape, kind = _only(inference.get_inputs(), "input")
        output, result, _ = _only(inference.get_outputs(), "output")
        if kind not in _DTYPES:
            raise BundleError(f"model.onnx takes {kind}; a bundle takes {' or '.join(_DTYPES)}")
        if len(shape) != 4 or not _fits(shape[1:], signature.input.shape):
            raise BundleError(f"model.onnx takes {shape}, the manifest states {('N', *signature.input.shape)}")
        if len(result) < 2 or not _fits(result[1:2], (len(signature.labels),)):
            raise BundleError(f"model.onnx gives {result}, the manifest has {len(signature.labels)} labels")
        self.input_dtype = _DTYPES[kind]
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self._run = inference.run
        self._input = name
        self._outputs = [output]
        self._errors = _errors()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        if images.dtype != _FLOAT32:
            raise DataError(f"a network takes normalized float32, got {images.dtype}; see runtime.preprocess.to_input")
        if self.input_dtype != _FLOAT32:
            images = images.astype(self.input_dtype)
        try:
            outputs: NDArray[Any] = self._run(self._outputs, {self._input: images})[0]
        except self._errors as error:
            raise DataError(f"the network does not take a batch of shape {images.shape}: {_plain(error)}") from None
        return outputs if outputs.dtype == _FLOAT32 else outputs.astype(np.float32)


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime on the CPU: all graph optimizations, nothing but standard operators."""

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """What may compute a node, the first that can."""

    def available(self) -> str | None:
        """Return None where onnxruntime is installed."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install onnxruntime"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of onnxruntime."""
        if self.available():
            return {}
        return {"onnxruntime": str(_library().__version__)}

    def load(self, program: Program, threads: int) -> OnnxRuntimeSession:
        """Return the ONNX file of `program`, unpacked where it is packed, ready to run."""
        if self.available():
            raise MissingExtraError("running an ONNX file", "deploy")
        if threads < 1:
            raise DataError(f"a network needs at least one thread, got {threads}")
        data = onnx_file(program)
        # A model loaded from bytes may still name files, which onnxruntime 1.31 opens relative to the working folder.
        refuse_external_data(data, "model.onnx")
        options = _options(threads)
        if self.device == "cpu" and may_saturate(program):
            warnings.warn(explain(program), HardwareWarning, stacklevel=2)
            # Signed weights become unsigned, for kernels that do not saturate. With VNNI this would only be slower.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            session: Any = _library().InferenceSession(
                data, options, providers=list(self.providers), disabled_optimizers=list(NOT_EXACT)
            )
        except _errors() as error:
            raise BundleError(f"onnxruntime cannot load model.onnx: {_plain(error)}; export it again") from None
        if session.get_providers()[0] != self.providers[0]:
            raise BundleError(
                f"onnxruntime could not start its {self.providers[0]} and would compute on the processor; "
                "its log above says what is missing (a driver, CUDA, cuDNN, TensorRT)"
            )
        return OnnxRuntimeSession(session, program.signature)


def _library() -> Any:
    """Return the module `onnxruntime`, which has no type information and costs a fifth of a second."""
    return importlib.import_module("onnxruntime")


def _options(threads: int) -> Any:
    onnxruntime = _library()
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Waiting threads that spin take the core from whatever else runs, here the caller itself: an 18-layer net on 2
    # threads of 2 shared cores took 6.8 ms with spinning, 2.9 ms without, and 1.7 to 2.5 times the CPU time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Never take the bytes for the older flatbuffer format, which `refuse_external_data` does not read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _only(values: list[Any], what: str) -> tuple[str, list[Any], str]:
    if len(values) != 1:
        raise BundleError(f"model.onnx has {len(values)} {what}s; a bundle has one")
    return str(values[0].name), list(values[0].shape), str(values[0].type)


def _fits(shape: list[Any], wanted: tuple[int, ...]) -> bool:
    """Return whether the sizes that `shape` fixes are those `wanted`; a name or None stands for any size."""
    return len(shape) == len(wanted) and all(
        given == size for given, size in zip(shape, wanted, strict=True) if isinstance(given, int)
    )


@cache
def _errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises: classes without a common base, and two of Python's own."""
    state = _library().capi.onnxruntime_pybind11_state
    found: list[Any] = [getattr(state, name) for name in dir(state)]
    own = [item for item in found if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, RuntimeError, ValueError)


def _plain(error: Exception) -> str:
    """Return the first line of an onnxruntime message, without its code prefix."""
    first = str(error).strip().splitlines() or [type(error).__name__]
    return first[0].rpartition("[ONNXRuntimeError] : ")[2][:300]


engines.register("onnxruntime")(OnnxRuntimeEngine())
