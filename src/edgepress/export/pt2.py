"""PyTorch's own `.pt2`: the graph of `torch.export` with its weights, no Python code. Others are held against it.

Only float networks: a quantized one would compute in floating point what other engines compute in integers, and its
time would mean nothing.
"""

import copy
import io
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import EdgepressError
from edgepress.export.convert import HALF
from edgepress.export.formats import formats
from edgepress.export.onnx import provenance
from edgepress.export.parity import bounds_for, check
from edgepress.runtime.batches import first_line


@formats.register("pt2")
def export_pt2(model: Model, samples: NDArray[np.uint8]) -> Program:
    """Return `model` as its authors wrote it, batch norms and all, for PyTorch; proven on `samples`.

    Raises `EdgepressError` for a quantized network or one that `torch.export` cannot trace, `ParityError` where the
    file differs.
    """
    return check(model, _program(model, model.precision), samples)


@formats.register("pt2-bf16")
def export_pt2_bf16(model: Model, samples: NDArray[np.uint8]) -> Program:
    """Return the same file, to be run under PyTorch's automatic bfloat16; proven on `samples`."""
    return check(model, _program(model, "bf16"), samples, bounds_for(model.precision, HALF))


def _program(model: Model, precision: str) -> Program:
    if model.precision != "fp32":
        raise EdgepressError(f"PyTorch has no integer kernels for this {model.precision} network; it would simulate")
    module = copy.deepcopy(model.module).cpu().float().eval()
    sample = torch.zeros(2, *model.signature.input.shape)
    try:
        exported = torch.export.export(
            module, (sample,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise EdgepressError(f"PyTorch cannot export {model.builder.name}: {first_line(error)}") from error
    exported.example_inputs = None  # pyright: ignore[reportAttributeAccessIssue]  (they would be pickled into the file)
    file = io.BytesIO()
    torch.export.save(exported, file)
    about = {**provenance(model), "format": {"name": "pt2"}, "versions": {"torch": torch.__version__}}
    return replace(Program(model.signature, "pt2", precision, {"model.pt2": file.getvalue()}), provenance=about)
