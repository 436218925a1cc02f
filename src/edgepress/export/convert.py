"""Formats made from an ONNX file alone: so a bundle can change its engine on a machine without its network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import EdgepressError
from edgepress.core.registry import Registry
from edgepress.export.formats import formats

HALF = 0.05
"""The rms difference allowed to an arithmetic of 16 bits (8 of mantissa in bfloat16), as a share of the rms of the
outputs."""

Converter = Callable[[Program], Program]
"""Called with a program of ONNX Runtime; returns the unchecked program of another engine."""


@dataclass(frozen=True)
class Conversion:
    """How a format is made of an ONNX file, and the rms difference allowed to its arithmetic where that has fewer
    digits than float32 (None where it has not)."""

    to: Converter
    tolerance: float | None = None

    def of(self, model: Model, plain: Program, samples: NDArray[np.uint8]) -> Program:
        """Return `plain`, the ONNX file of `model`, in this format, once it passed the parity gate."""
        from edgepress.export.parity import bounds_for, check

        return check(model, self.to(plain), samples, bounds_for(model.precision, self.tolerance))


conversions: Registry[Conversion] = Registry("conversion of ONNX files", ("edgepress.export",))


def register_conversion(name: str, to: Converter, tolerance: float | None = None) -> None:
    """Register the export format `name`, made by way of the ONNX file."""
    conversion = conversions.register(name)(Conversion(to, tolerance))

    def export(model: Model, samples: NDArray[np.uint8]) -> Program:
        from edgepress.export.onnx import FILE, provenance, to_onnx

        plain = Program(model.signature, "onnxruntime", model.precision, {FILE: to_onnx(model)}, provenance(model))
        return conversion.of(model, plain, samples)

    formats.register(name)(export)


def convert(program: Program, to: str, samples: NDArray[np.uint8]) -> Program:
    """Return `program`, a bundle of ONNX Runtime, in the format `to`, proven on `samples` to answer as it does.

    `samples` are real images, uint8 `(N, height, width, channels)`. Raises `EdgepressError` for other bundles,
    `ParityError` where the new file differs.
    """
    from edgepress.export.parity import bounds_for, proven
    from edgepress.runtime.predictor import EnginePredictor

    if program.runtime != "onnxruntime":
        raise EdgepressError(f"only an ONNX file is converted, this is for {program.runtime}; export the network")
    conversion = conversions.get(to)
    converted = conversion.to(program)
    expected, got = EnginePredictor(program)(samples), EnginePredictor(converted)(samples)
    bounds = bounds_for(program.precision, conversion.tolerance)
    return proven(converted, bounds, expected, got, f"the {to} file does not compute what the ONNX file does")


def joined(precision: str, arithmetic: str) -> str:
    """Return the precision of a network held in `precision` and otherwise computed in `arithmetic` ("" for float32):
    "bf16", "w8a8", "w8a8+bf16"."""
    return arithmetic or precision if precision == "fp32" else "+".join(filter(None, (precision, arithmetic)))


def from_onnx(program: Program, runtime: str, files: Mapping[str, bytes], precision: str = "", **about: Any) -> Program:
    """Return a program for `runtime` made of `program`; `about` says with what (the format's part of the provenance).

    `precision` is "" for that of the ONNX file.
    """
    provenance = {**program.provenance, "format": {**about, "from": "onnx"}}
    return Program(program.signature, runtime, precision or program.precision, files, provenance)
