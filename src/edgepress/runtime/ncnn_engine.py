"""The engine `ncnn`: `model.param` and `model.bin` on the CPU, one image at a time."""

import importlib
import importlib.metadata
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, MissingExtraError
from edgepress.runtime.batches import FLOAT32, check_images, check_outputs, file_of
from edgepress.runtime.engine import Engine, Session, engines


class NcnnSession(Session):
    """A network with the blobs `in0` and `out0`, as pnnx names them."""

    input_dtype = FLOAT32
    batch = None

    def __init__(self, library: Any, net: Any, signature: Signature) -> None:
        self._mat, self._net = library.Mat, net
        self._shape = signature.input.shape
        check_outputs(self(np.zeros((1, *self._shape), np.float32)), len(signature.labels), "model.param")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        check_images(images, self._shape)
        return np.stack([self._one(np.ascontiguousarray(image)) for image in images])

    def _one(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        extractor = self._net.create_extractor()
        if extractor.input("in0", self._mat(image)) != 0:
            raise BundleError("model.param has no input named in0; export it again")
        code, result = extractor.extract("out0")
        if code != 0:
            raise BundleError(f"ncnn gave no output out0 (code {code}); export it again")
        return np.array(result, np.float32)


class NcnnEngine(Engine):
    """ncnn on the CPU, without Vulkan."""

    def available(self) -> str | None:
        """Return None where ncnn is installed."""
        if importlib.util.find_spec("ncnn") is None:
            return "ncnn is not installed: pip install 'edgepress[ncnn]'"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of ncnn."""
        return {} if self.available() else {"ncnn": importlib.metadata.version("ncnn")}

    def load(self, program: Program, threads: int) -> NcnnSession:
        """Return `program`, ready to run; "bf16" and "fp16" in its precision choose that arithmetic."""
        if self.available():
            raise MissingExtraError("running an ncnn file", "ncnn")
        file_of(program, "model.bin", threads)
        library: Any = importlib.import_module("ncnn")
        net = library.Net()
        options, words = net.opt, program.precision.split("+")
        options.use_vulkan_compute = False
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = "fp16" in words
        options.use_bf16_storage = "bf16" in words
        with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
            for name in ("model.param", "model.bin"):
                (Path(folder) / name).write_bytes(file_of(program, name, threads))
            # Both give a code other than 0 for what they cannot read, and print why.
            codes = net.load_param(str(Path(folder) / "model.param")), net.load_model(str(Path(folder) / "model.bin"))
        if any(codes):
            raise BundleError("ncnn cannot load model.param and model.bin; export them again")
        return NcnnSession(library, net, program.signature)


engines.register("ncnn")(NcnnEngine())
