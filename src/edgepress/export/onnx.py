"""ONNX: a network of edgepress as one slim `.onnx` file that ONNX Runtime and others run."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import EdgepressError
from edgepress.export.fake import Quantizer
from edgepress.export.formats import formats
from edgepress.export.graph import trace
from edgepress.export.packed import compress
from edgepress.export.parity import check
from edgepress.export.qdq import DOMAIN, FAKE, lower
from edgepress.export.saturation import exact_on
from edgepress.export.slim import slim
from edgepress.runtime.hardware import PROVENANCE
from edgepress.runtime.packed import PACKED, PLAIN

OPSET = 20
IR_VERSION = 10
FILE = PLAIN


@formats.register("onnx")
def export_onnx(model: Model, samples: NDArray[np.uint8]) -> Program:
    """Return `model` as a program for ONNX Runtime, proven on `samples` to compute what the network computes.

    The file takes "input", float32 `(batch, channels, height, width)` with any batch, and gives "output". A quantized
    network becomes a QDQ graph with int8 weights; where some have fewer than 8 bits the file is stored packed, and
    the runtime unpacks it while loading. `samples` are real images, uint8 `(N, height, width, channels)`.

    Raises `ParityError` with the numbers where the runtime disagrees with the network, `EdgepressError` where the
    network cannot be written as ONNX.
    """
    data = to_onnx(model)
    about = provenance(model)
    if model.precision != "fp32":
        about[PROVENANCE] = exact_on(data)
    program = Program(model.signature, "onnxruntime", model.precision, _files(model, data), about)
    return check(model, program, samples)


def to_onnx(model: Model) -> bytes:
    """Return the bytes of the ONNX file of `model`, unchecked."""
    module = _exportable(model)
    sample = torch.zeros(2, *model.signature.input.shape)
    batch = torch.export.Dim("batch", min=1)
    with _quietly():
        try:
            exported = torch.onnx.export(
                module,
                (sample,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: batch},),
                input_names=["input"],
                output_names=["output"],
                optimize=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise EdgepressError(f"{model.builder.name} cannot be written as ONNX: {_reason(error)}") from error
    assert exported is not None
    graph_model = exported.model
    lower(graph_model.graph)
    slim(graph_model)
    graph_model.ir_version = IR_VERSION
    return ir.to_proto(graph_model).SerializeToString()


def provenance(model: Model) -> dict[str, Any]:
    """Return where a program comes from, as the manifest states it: builder, edits without their long lists, tools."""
    import onnx

    edits = [{k: v for k, v in edit.items() if k != "sites"} for edit in model.edits]
    return {
        "model": {"name": model.builder.name, "arguments": model.builder.arguments},
        "edits": edits,
        "parent": model.key,
        "format": {"name": "onnx", "opset": OPSET},
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
    }


def _files(model: Model, data: bytes) -> dict[str, bytes]:
    schemes = [part.scheme for part in model.module.modules() if isinstance(part, Quantizer)]
    narrow = any(scheme.signed and scheme.bits < 8 for scheme in schemes)  # only weights are signed
    return {PACKED: compress(data)} if narrow else {PLAIN: data}


class _Symbolic(nn.Module):
    """Stands for a quantizer during export: one `edgepress::FakeQuantize` node."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.scheme = quantizer.scheme
        self.register_buffer("scale", quantizer.scale.detach().clone())
        self.register_buffer("zero_point", quantizer.zero_point.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        axis = -1 if self.scheme.axis is None else self.scheme.axis
        return torch.onnx.ops.symbolic(
            f"{DOMAIN}::{FAKE}",
            (x, self.scale, self.zero_point),
            {"axis": axis, "qmin": self.scheme.qmin, "qmax": self.scheme.qmax},
            dtype=x.dtype,
            shape=x.shape,
            version=1,
        )


def _exportable(model: Model) -> nn.Module:
    """Return a copy of the network on the CPU, in evaluation mode, with batch norms folded or quantizers symbolic."""
    module = copy.deepcopy(model.module).cpu().float().eval()
    quantizers = [name for name, part in module.named_modules() if isinstance(part, Quantizer)]
    if not quantizers:
        return trace(module, model.signature, for_integers=False).eval()
    for name in quantizers:
        quantizer = module.get_submodule(name)
        assert isinstance(quantizer, Quantizer)
        module.set_submodule(name, _Symbolic(quantizer))
    return module


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's chatter about its own internals away from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost cause: the exporter wraps what matters several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
