"""The engine `executorch`: a `.pte` file on the CPU, its kernels XNNPACK's. The Python runtime brings PyTorch along."""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, DataError, MissingExtraError
from edgepress.runtime.batches import FLOAT32, check_images, check_outputs, file_of, first_line
from edgepress.runtime.engine import Engine, Session, engines


class ExecuTorchSession(Session):
    """A network with one image input and one output."""

    input_dtype = FLOAT32
    batch = None

    def __init__(self, torch: Any, program: Any, signature: Signature) -> None:
        self._torch, self._program = torch, program  # the method reads from the program, which must outlive it
        self._method = program.load_method("forward")
        self._shape = signature.input.shape
        # Memory is planned when the file is written: for 64 images as a rule, for fewer where the converter's shape
        # analysis gave up (a ResNet-20 with shortcuts of slices and padding: 15).
        planned = int(self._method.metadata.input_tensor_meta(0).nbytes())
        self._most = max(1, planned // (4 * int(np.prod(self._shape))))
        check_outputs(self(np.zeros((1, *self._shape), np.float32)), len(signature.labels), "model.pte")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        check_images(images, self._shape)
        parts = [self._part(images[start : start + self._most]) for start in range(0, len(images), self._most)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (outputs,) = self._method.execute([self._torch.from_numpy(np.ascontiguousarray(images))])
        except RuntimeError as error:
            raise DataError(f"model.pte does not take {len(images)} images: {first_line(error)}") from None
        # The file's own memory holds the result until the next call.
        result: NDArray[np.float32] = outputs.numpy().copy()
        return result


class ExecuTorchEngine(Engine):
    """ExecuTorch with XNNPACK."""

    def available(self) -> str | None:
        """Return None where ExecuTorch is installed."""
        if importlib.util.find_spec("executorch") is None:
            return "ExecuTorch is not installed: pip install 'edgepress[executorch]'"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of ExecuTorch."""
        return {} if self.available() else {"executorch": importlib.metadata.version("executorch")}

    def load(self, program: Program, threads: int) -> ExecuTorchSession:
        """Return `model.pte` of `program`, ready to run. Its threads are those of the whole process."""
        if self.available():
            raise MissingExtraError("running a .pte file", "executorch")
        data = file_of(program, "model.pte", threads)
        torch: Any = importlib.import_module("torch")
        importlib.import_module("executorch.kernels.quantized")  # registers what lies between integers and floats
        runtime: Any = importlib.import_module("executorch.runtime").Runtime.get()
        _set_threads(importlib.import_module("executorch.extension.pybindings.portable_lib"), threads)
        try:
            return ExecuTorchSession(torch, runtime.load_program(data), program.signature)
        except RuntimeError as error:
            raise BundleError(f"ExecuTorch cannot load model.pte: {first_line(error)}; export it again") from None


def _set_threads(library: Any, threads: int) -> None:
    """Size the pool of XNNPACK's threads. It has as many as the machine has cores, which fight where the process is
    kept on fewer: a tenth of the calls then took ten times as long."""
    count = getattr(library, "_threadpool_get_thread_count", None)
    reset = getattr(library, "_unsafe_reset_threadpool", None)
    if callable(count) and callable(reset) and count() != threads:
        reset(threads)


engines.register("executorch")(ExecuTorchEngine())
