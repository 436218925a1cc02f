"""The engine `tensorrt`: a plan built on this NVIDIA device. Memory on the card is PyTorch's, if it is there."""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, DataError, MissingExtraError
from edgepress.runtime.batches import FLOAT32, check_images, check_outputs, file_of
from edgepress.runtime.engine import Engine, Session, engines


class TensorRtSession(Session):
    """An engine with one image input and one output; a call copies the images to the card and the answer back."""

    input_dtype = FLOAT32
    batch = None

    def __init__(self, torch: Any, plan: Any, signature: Signature) -> None:
        names = [plan.get_tensor_name(number) for number in range(plan.num_io_tensors)]
        if len(names) != 2:
            raise BundleError(f"model.engine has {len(names)} inputs and outputs; a bundle has one each")
        self._torch, self._plan, self._context = torch, plan, plan.create_execution_context()
        self._input, self._output = names
        self._shape = signature.input.shape
        self._stream = torch.cuda.Stream()
        check_outputs(self(np.zeros((1, *self._shape), np.float32)), len(signature.labels), "model.engine")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        check_images(images, self._shape)
        torch = self._torch
        with torch.cuda.stream(self._stream):
            given = torch.from_numpy(np.ascontiguousarray(images)).cuda(non_blocking=True)
            if not self._context.set_input_shape(self._input, tuple(images.shape)):
                raise DataError(f"model.engine was not built for {len(images)} images at once; give fewer")
            result = torch.empty(tuple(self._context.get_tensor_shape(self._output)), device="cuda")
            self._context.set_tensor_address(self._input, given.data_ptr())
            self._context.set_tensor_address(self._output, result.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise DataError(f"TensorRT did not run on a batch of {len(images)} images")
            outputs: NDArray[np.float32] = result.cpu().numpy()
        return outputs


class TensorRtEngine(Engine):
    """TensorRT on an NVIDIA device."""

    device = "cuda"

    def available(self) -> str | None:
        """Return None where TensorRT, PyTorch and a device are there."""
        for name, extra in (("tensorrt", "tensorrt"), ("torch", "train")):
            if importlib.util.find_spec(name) is None:
                return f"{name} is not installed: pip install 'edgepress[{extra}]' (tensorrt: from NVIDIA's own index)"
        if not importlib.import_module("torch").cuda.is_available():
            return "there is no NVIDIA device"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of TensorRT."""
        return {} if self.available() else {"tensorrt": importlib.metadata.version("tensorrt")}

    def load(self, program: Program, threads: int) -> TensorRtSession:
        """Return `model.engine` of `program`, ready to run. An engine belongs to the device it was built on."""
        if self.available():
            raise MissingExtraError("running a TensorRT engine", "tensorrt")
        data = file_of(program, "model.engine", threads)
        tensorrt: Any = importlib.import_module("tensorrt")
        plan = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR)).deserialize_cuda_engine(data)
        if plan is None:
            raise BundleError(
                "TensorRT cannot load model.engine: it was built on another device or version; export it here"
            )
        return TensorRtSession(importlib.import_module("torch"), plan, program.signature)


engines.register("tensorrt")(TensorRtEngine())
