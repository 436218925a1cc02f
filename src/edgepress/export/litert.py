"""LiteRT: a `.tflite` file; with our scales in it, where the network is quantized."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.export.decomposed import portable
from edgepress.export.formats import formats
from edgepress.export.onnx import provenance
from edgepress.export.parity import check
from edgepress.export.strides import pool_for_slices
from edgepress.runtime.batches import first_line


def _static() -> Any:
    """Return the configuration that makes the converter fuse pairs into integer operations. It quantizes nothing
    itself; without it a ResNet-8 computed in floats between conversions, 1.7 ms where the fused file takes far less."""
    quantizer: Any = importlib.import_module("litert_torch.quantize.pt2e_quantizer")
    config: Any = importlib.import_module("litert_torch.quantize.quant_config")
    scheme = quantizer.get_symmetric_quantization_config(is_per_channel=True)
    return config.QuantConfig(pt2e_quantizer=quantizer.PT2EQuantizer().set_global(scheme))


@formats.register("litert")
def export_litert(model: Model, samples: NDArray[np.uint8]) -> Program:
    """Return `model` for LiteRT, proven on `samples`; the interpreter resizes its one image to any batch.

    Raises `MissingExtraError` where litert-torch is absent, `EdgepressError` where it cannot convert the network,
    `ParityError` where the file differs.
    """
    try:
        converter: Any = importlib.import_module("litert_torch")
    except ImportError:
        raise MissingExtraError("writing a .tflite file", "litert") from None
    module = pool_for_slices(portable(model, "pairs"))
    try:
        sample = (torch.zeros(1, *model.signature.input.shape),)
        made = converter.convert(module, sample, quant_config=None if model.precision == "fp32" else _static())
        with tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
            path = Path(folder) / "model.tflite"
            made.export(str(path))
            data = path.read_bytes()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise EdgepressError(f"LiteRT cannot take {model.builder.name}: {first_line(error)}") from error
    about = {**provenance(model), "format": {"name": "litert"}}
    return check(model, Program(model.signature, "litert", model.precision, {"model.tflite": data}, about), samples)
