"""The engine `litert` (once TensorFlow Lite): a `.tflite` file on the CPU, its kernels XNNPACK's."""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, MissingExtraError
from edgepress.runtime.batches import FLOAT32, check_images, check_outputs, file_of, first_line
from edgepress.runtime.engine import Engine, Session, engines


@dataclass(frozen=True)
class _Codes:
    """How an integer file holds its input or output: `scale * (code - zero_point)`."""

    dtype: np.dtype[Any]
    scale: np.float32
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> "_Codes | None":
        """Return the codes of an input or output, None where it is in floats."""
        if details["dtype"] is np.float32:
            return None
        scale, zero_point = details["quantization"]
        return cls(np.dtype(details["dtype"]), np.float32(scale), int(zero_point))

    def encode(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return `values` rounded to codes."""
        codes = np.rint(values * (np.float32(1) / self.scale)) + self.zero_point
        limits = np.iinfo(self.dtype)
        return np.clip(codes, limits.min, limits.max).astype(self.dtype)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Return what `codes` stand for."""
        return (codes.astype(np.float32) - np.float32(self.zero_point)) * self.scale


class LiteRtSession(Session):
    """A network with one image input and one output."""

    input_dtype = FLOAT32
    batch = None

    def __init__(self, interpreter: Any, signature: Signature) -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError(f"model.tflite has {len(inputs)} inputs and {len(outputs)} outputs; one each fits")
        for details in (inputs[0], outputs[0]):
            if details["dtype"] not in (np.float32, np.int8, np.uint8):
                raise BundleError(f"model.tflite takes or gives {details['dtype'].__name__}; float32, int8, uint8 fit")
        self._entry, self._exit = _Codes.of(inputs[0]), _Codes.of(outputs[0])
        self._interpreter, self._input, self._output = interpreter, inputs[0]["index"], outputs[0]["index"]
        self._shape = signature.input.shape
        self._batch, self._single = 0, False
        self._resize(1)
        check_outputs(self(np.zeros((1, *self._shape), np.float32)), len(signature.labels), "model.tflite")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        check_images(images, self._shape)
        if (self._single and len(images) > 1) or (len(images) != self._batch and not self._resizes(len(images))):
            return np.concatenate([self(image[None]) for image in images])
        self._interpreter.set_tensor(self._input, self._entry.encode(images) if self._entry else images)
        self._interpreter.invoke()
        result: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return self._exit.decode(result) if self._exit else result

    def _resizes(self, batch: int) -> bool:
        """Make room for `batch` images; return False for a network that flattens to one row, and takes one image.

        Such a network is refused here, or gives one answer for all of them.
        """
        try:
            self._resize(batch)
            fits = self._interpreter.get_output_details()[0]["shape"][0] == batch
        except RuntimeError:
            fits = False
        if not fits:
            self._single = True
            self._resize(1)
        return bool(fits) or batch == 1

    def _resize(self, batch: int) -> None:
        self._interpreter.resize_tensor_input(self._input, (batch, *self._shape))
        self._interpreter.allocate_tensors()
        self._batch = batch


class LiteRtEngine(Engine):
    """LiteRT with XNNPACK."""

    def available(self) -> str | None:
        """Return None where LiteRT is installed."""
        if importlib.util.find_spec("ai_edge_litert") is None:
            return "LiteRT is not installed: pip install 'edgepress[litert]'"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of LiteRT."""
        return {} if self.available() else {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}

    def load(self, program: Program, threads: int) -> LiteRtSession:
        """Return `model.tflite` of `program`, ready to run."""
        if self.available():
            raise MissingExtraError("running a .tflite file", "litert")
        data = file_of(program, "model.tflite", threads)
        library: Any = importlib.import_module("ai_edge_litert.interpreter")
        try:
            return LiteRtSession(library.Interpreter(model_content=data, num_threads=threads), program.signature)
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"LiteRT cannot load model.tflite: {first_line(error)}; export it again") from None


engines.register("litert")(LiteRtEngine())
