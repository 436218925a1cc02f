"""The engine `pt2`: a network as `torch.export` saved it, run by PyTorch itself. The baseline of the matrix."""

import importlib
import importlib.metadata
import importlib.util
import io
import json
import re
import zipfile
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, MissingExtraError
from edgepress.runtime.batches import FLOAT32, check_images, file_of, first_line
from edgepress.runtime.engine import Engine, Session, engines


class Pt2Session(Session):
    """A network with one image input and one output."""

    input_dtype = FLOAT32
    batch = None

    def __init__(self, torch: Any, module: Any, signature: Signature, bf16: bool) -> None:
        self._torch, self._module, self._bf16 = torch, module, bf16
        self._shape = signature.input.shape

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for float32 `images` `(N, channels, height, width)`. Raises `DataError`."""
        torch = self._torch
        check_images(images, self._shape)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            outputs = self._module(torch.from_numpy(np.ascontiguousarray(images)))
        return outputs.float().numpy()


class Pt2Engine(Engine):
    """PyTorch's own operators, one after the other."""

    def available(self) -> str | None:
        """Return None where PyTorch is installed."""
        if importlib.util.find_spec("torch") is None:
            return "PyTorch is not installed: pip install 'edgepress[train]'"
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of PyTorch."""
        if self.available():
            return {}
        return {"torch": importlib.metadata.version("torch").split("+")[0]}

    def load(self, program: Program, threads: int) -> Pt2Session:
        """Return `model.pt2` of `program`, ready to run. Sets the threads of PyTorch for the whole process."""
        if self.available():
            raise MissingExtraError("running a .pt2 file", "train")
        data = file_of(program, "model.pt2", threads)
        refuse_pickles(data)
        torch: Any = importlib.import_module("torch")
        torch.set_num_threads(threads)
        try:
            exported = torch.export.load(io.BytesIO(data))
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
            raise BundleError(f"PyTorch cannot load model.pt2: {first_line(error)}; export it again") from None
        return Pt2Session(torch, exported.module(), program.signature, program.precision == "bf16")


_MEMBERS = re.compile(
    r"[^/]+/(data/(weights/weight_\d+|constants/tensor_\d+|weights/model_weights_config\.json"
    r"|constants/model_constants_config\.json|sample_inputs/model\.pt)|models/model\.json|archive_format"
    r"|archive_version|byteorder|\.data/(version|serialization_id|alignment))"
)


def refuse_pickles(data: bytes) -> None:
    """Raise `BundleError` unless the `.pt2` archive in `data` holds plain tensors and JSON only.

    `torch.export.load` unpickles sample inputs, tensors marked so, and members of older layouts, which runs
    whatever the file says. Ours have none of these, and in their graph nothing that is evaluated (`refuse_code`).
    PyTorch reads the first of two members of one name, Python the last; ours are stored as they are and once, so
    nothing else is let through.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) < len(members):
                raise BundleError("model.pt2 holds two files of one name; export it again")
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise BundleError("model.pt2 holds compressed files, which ours have not; export it again")
            if sum(member.file_size for member in members) > len(data):
                raise BundleError("model.pt2 says that it holds more than it has bytes; export it again")
            for member in members:
                name = member.filename
                if not _MEMBERS.fullmatch(name):
                    raise BundleError(f"model.pt2 holds {name[:80]!r}, which ours have not; export it again")
                if name.endswith("sample_inputs/model.pt") and member.file_size:
                    raise BundleError("model.pt2 holds pickled sample inputs, which could run code; export it again")
                if name.endswith("models/model.json"):
                    refuse_code(json.loads(archive.read(member)))
                if name.endswith("_config.json"):
                    config = json.loads(archive.read(member))["config"]
                    if any(entry["use_pickle"] for entry in config.values()):
                        raise BundleError("model.pt2 holds pickled tensors, which could run code; export it again")
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"model.pt2 is damaged ({first_line(error)}); copy or export it again") from None


_SIZE = re.compile(
    r"(Symbol\('\w{1,20}'(, (positive|nonnegative|integer)=True){0,3}\)|Integer\(-?\d{1,18}\)"
    r"|(Add|Mul|FloorDiv|Mod)\(|, |\)|-?\d{1,18}(?!\d)){1,200}"
)
_TARGET = re.compile(r"torch\.ops\.\w+\.\w+\.\w+|_operator\.\w+")


def refuse_code(graph: Any) -> None:
    """Raise `BundleError` unless the sizes in the JSON of a graph are symbols, numbers, their sums and products, what
    it calls are operators, and it has no guards: PyTorch evaluates the text of sizes and guards as Python."""
    waiting: list[Any] = [graph]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += cast("list[Any]", found)
        if not isinstance(found, dict):
            continue
        part = cast("dict[str, Any]", found)
        waiting += part.values()
        size, target = part.get("expr_str"), part.get("target")
        if isinstance(size, str) and not _SIZE.fullmatch(size):
            raise BundleError(f"model.pt2 holds the size {size[:80]!r}, which could run code; export it again")
        if isinstance(target, str) and "inputs" in part and not _TARGET.fullmatch(target):
            raise BundleError(f"model.pt2 calls {target[:80]!r}, which is no operator of PyTorch; export it again")
        if part.get("guards_code"):
            raise BundleError("model.pt2 holds guards, which are code; export it again")


engines.register("pt2")(Pt2Engine())
