"""The engine `coreml`: a package in `model.mlpackage.zip`, one image at a time, on what Core ML chooses: processor,
graphics or neural engine. It exists on Apple's systems only."""

import importlib
import importlib.metadata
import importlib.util
import io
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, MissingExtraError
from edgepress.runtime.batches import FLOAT32, check_images, check_outputs, file_of, first_line
from edgepress.runtime.engine import Engine, Session, engines

PACKAGE = "model.mlpackage"
FILE = f"{PACKAGE}.zip"
"""A package is a folder and a bundle is flat, so it travels as an archive; a Mac opens it by a click."""

MODEL = f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel"
MANIFEST = f"{PACKAGE}/Manifest.json"
MEMBERS = (MODEL, f"{PACKAGE}/Data/com.apple.CoreML/weights/weight.bin", MANIFEST)


class CoreMlSession(Session):
    """A model with one input and one output."""

    input_dtype = FLOAT32
    batch = None

    def __init__(self, model: Any, signature: Signature) -> None:
        about = model.get_spec().description
        if len(about.input) != 1 or len(about.output) != 1:
            raise BundleError(f"{FILE} has {len(about.input)} inputs and {len(about.output)} outputs; one each is read")
        self._model, self._input, self._output = model, about.input[0].name, about.output[0].name
        self._shape = signature.input.shape
        check_outputs(self(np.zeros((1, *self._shape), np.float32)), len(signature.labels), FILE)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        check_images(images, self._shape)
        each = [self._model.predict({self._input: np.ascontiguousarray(image[None])}) for image in images]
        return np.concatenate([np.asarray(found[self._output], np.float32) for found in each])


class CoreMlEngine(Engine):
    """Core ML through coremltools. It takes as many threads as it likes."""

    def available(self) -> str | None:
        """Return None on an Apple system with coremltools."""
        if sys.platform != "darwin":
            return "Core ML runs on Apple's systems only"
        if importlib.util.find_spec("coremltools") is None:
            return "coremltools is not installed: pip install 'edgepress[coreml]'"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of coremltools."""
        return {} if self.available() else {"coremltools": importlib.metadata.version("coremltools")}

    def load(self, program: Program, threads: int) -> CoreMlSession:
        """Return `program`, ready to run. Raises `BundleError` on other systems."""
        if sys.platform != "darwin":
            raise BundleError(f"this bundle is for Core ML, and {self.available()}; copy it there, or export another")
        if self.available():
            raise MissingExtraError("running a Core ML package", "coreml")
        coremltools: Any = importlib.import_module("coremltools")
        with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
            unpack(file_of(program, FILE, threads), Path(folder))
            try:
                model = coremltools.models.MLModel(str(Path(folder) / PACKAGE))
            except (RuntimeError, ValueError, OSError) as error:
                raise BundleError(f"Core ML cannot load {FILE}: {first_line(error)}; export it again") from error
            return CoreMlSession(model, program.signature)


def unpack(data: bytes, folder: Path) -> None:
    """Write the package in the archive `data` below `folder`.

    Raises `BundleError` unless it holds the files of a package, as they are: no others, none compressed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(archive.namelist())
            packed = [one.filename for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED]
            if names != sorted(MEMBERS) or packed or sum(one.file_size for one in archive.infolist()) > len(data):
                raise BundleError(f"{FILE} is not a Core ML package as edgepress writes it; export it again")
            for name in names:
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise BundleError(f"{FILE} is damaged ({first_line(error)}); export it again") from None


engines.register("coreml")(CoreMlEngine())
