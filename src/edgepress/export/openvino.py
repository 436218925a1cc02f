"""OpenVINO: the ONNX file as an intermediate representation, `model.xml` and `model.bin`, in three arithmetics.

Our quantize/dequantize pairs become FakeQuantize operations with our scales; the plugin runs them as integers.
`openvino-bf16` and `openvino-fp16` ask the engine for that arithmetic where the processor has it, and store the weights
in 16 bits.
"""

import tempfile
from functools import partial
from pathlib import Path

from edgepress.core.artifact import Program
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.export.convert import HALF, from_onnx, joined, register_conversion
from edgepress.export.labels import labelled
from edgepress.runtime.batches import last_line
from edgepress.runtime.packed import onnx_file


def to_openvino(program: Program, arithmetic: str = "") -> Program:
    """Return an ONNX program as one for OpenVINO, unchecked; `arithmetic` is "" for float32, else "bf16" or "fp16".

    Raises `MissingExtraError` where OpenVINO is absent, `EdgepressError` where it cannot read the file.
    """
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("writing an OpenVINO file", "openvino") from None
    try:
        # The bytes themselves: read_model takes them for a file's content. Labels are what its profiler will name.
        network = openvino.Core().read_model(labelled(onnx_file(program)))
    except RuntimeError as error:
        raise EdgepressError(f"OpenVINO cannot read this ONNX file: {last_line(error)}") from None
    with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(network, path, compress_to_fp16=bool(arithmetic))
        files = {name: (path.parent / name).read_bytes() for name in ("model.xml", "model.bin")}
    precision, version = joined(program.precision, arithmetic), openvino.__version__.split("-")[0]
    return from_onnx(program, "openvino", files, precision, name="openvino", version=version)


register_conversion("openvino", to_openvino)
register_conversion("openvino-bf16", partial(to_openvino, arithmetic="bf16"), HALF)
register_conversion("openvino-fp16", partial(to_openvino, arithmetic="fp16"), HALF)
