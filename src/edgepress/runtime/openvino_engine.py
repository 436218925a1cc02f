"""The engine `openvino`: an intermediate representation on the CPU, compiled for each batch size it meets."""

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, DataError, MissingExtraError
from edgepress.runtime.batches import FLOAT32, check_images, last_line
from edgepress.runtime.engine import Engine, Session, engines

FIXED_SIZES = 4
"""So many batch sizes get a network compiled for them; MobileNetV3-Small of a free size took 1.8 times as long."""

_HINTS = {"bf16": "bf16", "fp16": "f16"}


class OpenVinoSession(Session):
    """A network with one image input and one output."""

    input_dtype = FLOAT32
    batch = None

    def __init__(self, core: Any, network: Any, signature: Signature, options: dict[str, Any]) -> None:
        """Take an `openvino.Core` and the network it read; raise `BundleError` where it does not fit `signature`."""
        if len(network.inputs) != 1 or len(network.outputs) != 1:
            raise BundleError(
                f"model.xml has {len(network.inputs)} inputs, {len(network.outputs)} outputs; one each fits"
            )
        shape, result = network.inputs[0].partial_shape, network.outputs[0].partial_shape
        if str(network.inputs[0].element_type) not in ("<Type: 'float32'>", "f32"):
            raise BundleError(f"model.xml takes {network.inputs[0].element_type}; a bundle takes float32")
        if not _fits(shape, (None, *signature.input.shape)):
            raise BundleError(f"model.xml takes {shape}, the manifest states {('N', *signature.input.shape)}")
        if len(result) < 2 or not _fits([result[1]], (len(signature.labels),)):
            raise BundleError(f"model.xml gives {result}, the manifest has {len(signature.labels)} labels")
        self._core, self._network, self._options = core, network, options
        self._shape = signature.input.shape
        self._requests: dict[int, Any] = {}
        self._compiled: dict[int, Any] = {}
        self._request(1)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        check_images(images, self._shape)
        request = self._requests.get(len(images)) or self._request(len(images))
        outputs: NDArray[np.float32] = request.infer({0: images}, share_inputs=True)[0]
        return outputs

    def compiled(self) -> Any:
        """Return the `CompiledModel` of batch 1, whose operations a profiler may name."""
        return self._compiled[1]

    def request(self) -> Any:
        """Return the `InferRequest` of batch 1, which holds the profile of its last call."""
        return self._requests[1]

    def _request(self, batch: int) -> Any:
        """Return the request for `batch` images, compiling at first use; beyond `FIXED_SIZES` one serves all sizes."""
        size = batch if len(self._compiled) < FIXED_SIZES else -1
        if size not in self._compiled:
            network = self._network.clone()
            network.reshape([size, *self._shape])
            self._compiled[size] = self._core.compile_model(network, "CPU", self._options)
        request = self._compiled[size].create_infer_request()
        if size > 0 or len(self._requests) < 64:
            self._requests[batch] = request
        return request


class OpenVinoEngine(Engine):
    """OpenVINO's CPU plugin, tuned for the latency of one call."""

    def available(self) -> str | None:
        """Return None where OpenVINO is installed."""
        if importlib.util.find_spec("openvino") is None:
            return "OpenVINO is not installed: pip install 'edgepress[openvino]'"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of OpenVINO."""
        if self.available():
            return {}
        return {"openvino": str(_library().__version__).split("-")[0]}

    def load(self, program: Program, threads: int) -> OpenVinoSession:
        """Return `model.xml` and `model.bin` of `program`, ready to run in the arithmetic its precision names."""
        return self.open(program, threads)

    def open(self, program: Program, threads: int, profile: bool = False) -> OpenVinoSession:
        """Do as `load`; with `profile`, calls also record the time of each operation."""
        if self.available():
            raise MissingExtraError("running an OpenVINO file", "openvino")
        if threads < 1:
            raise DataError(f"a network needs at least one thread, got {threads}")
        if not {"model.xml", "model.bin"} <= set(program.files):
            raise BundleError(f"the bundle holds no model.xml and model.bin, only {', '.join(sorted(program.files))}")
        openvino = _library()
        core, hint = openvino.Core(), _hint(program.precision)
        _check_arithmetic(hint, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        options = plugin_options(threads, hint, profile)
        try:
            weights = openvino.Tensor(np.frombuffer(program.files["model.bin"], np.uint8))
            network = core.read_model(program.files["model.xml"], weights)
            return OpenVinoSession(core, network, program.signature, options)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load model.xml: {last_line(error)}; export it again") from None


def plugin_options(threads: int, hint: str = "f32", profile: bool = False) -> dict[str, Any]:
    """Return what the CPU plugin is told: the latency of one call counts, in the arithmetic `hint`."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": hint,
        "PERF_COUNT": profile,
        # Whoever pins the process decides; the plugin would choose cores of its own.
        "ENABLE_CPU_PINNING": False,
    }


def _hint(precision: str) -> str:
    """Return what OpenVINO shall compute in where it does not compute in integers."""
    return next((hint for name, hint in _HINTS.items() if name in precision.split("+")), "f32")


def _check_arithmetic(hint: str, known: Sequence[str]) -> None:
    """Raise `BundleError` where the plugin would silently take another arithmetic than `hint`: of "f16" it made
    bfloat16, with three digits less, on a processor without FP16."""
    name = {"f16": "FP16", "bf16": "BF16"}.get(hint, "FP32")
    if name not in known:
        able = ", ".join(one for one in ("FP32", "BF16", "FP16") if one in known)
        raise BundleError(f"OpenVINO does not compute in {name} on this processor, only in {able}; export it for those")


def _library() -> Any:
    return importlib.import_module("openvino")


def _fits(shape: Any, wanted: tuple[int | None, ...]) -> bool:
    """Return whether the sizes that `shape` fixes are those `wanted`; None stands for any."""
    return len(shape) == len(wanted) and all(
        size is None or given.is_dynamic or given.get_length() == size
        for given, size in zip(shape, wanted, strict=True)
    )


engines.register("openvino")(OpenVinoEngine())
