"""ncnn: the ONNX file put through pnnx; float32, or stored and computed in 16 bits.

Quantized networks are refused: ncnn's integers are symmetric for activations too, so our zero points have no place.
"""

import importlib
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from edgepress.core.artifact import Program
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.export.convert import HALF, from_onnx, register_conversion
from edgepress.export.strides import pool_for_onnx_slices
from edgepress.runtime.batches import last_line
from edgepress.runtime.packed import onnx_file

SECONDS = 600


def to_ncnn(program: Program, arithmetic: str = "") -> Program:
    """Return a float ONNX program as one for ncnn, unchecked; `arithmetic` is "" for float32, else "bf16" or "fp16".

    Raises `MissingExtraError` where pnnx is absent, `EdgepressError` where the network is quantized or pnnx fails.
    """
    if program.precision != "fp32":
        raise EdgepressError(f"ncnn has no integers with zero points, which this {program.precision} network needs")
    try:
        pnnx: Any = importlib.import_module("pnnx")
    except ImportError:
        raise MissingExtraError("writing an ncnn file (pnnx)", "ncnn") from None
    with tempfile.TemporaryDirectory(prefix="edgepress-") as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(pool_for_onnx_slices(onnx_file(program)))
        shape = ",".join(str(size) for size in (1, *program.signature.input.shape))
        words = [str(pnnx.EXEC_PATH), "model.onnx", f"inputshape=[{shape}]", f"fp16={int(bool(arithmetic))}"]
        try:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise EdgepressError(f"pnnx took more than {SECONDS} s for this network and was ended") from None
        param, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
        if done.returncode or not param.exists():
            last = last_line(done.stderr) or last_line(done.stdout) or f"exit code {done.returncode}"
            raise EdgepressError(f"pnnx cannot write this network for ncnn: {last}")
        files = {"model.param": param.read_bytes(), "model.bin": weights.read_bytes()}
    kinds = {line.split()[0].decode() for line in files["model.param"].splitlines()[2:] if line.strip()}
    unknown = sorted(kind for kind in kinds if "." in kind)
    if unknown:
        raise EdgepressError(f"ncnn has no {', '.join(unknown)}, which this network uses")
    return from_onnx(program, "ncnn", files, arithmetic, name="ncnn")


register_conversion("ncnn", to_ncnn)
register_conversion("ncnn-bf16", partial(to_ncnn, arithmetic="bf16"), HALF)
