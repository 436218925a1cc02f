"""Formats made from an ONNX file alone: so a bundle can change its engine on a machine without its network."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import EdgepressError, ParityError
from edgepress.core.registry import Registry

Converter = Callable[[Program], Program]
"""Called with a program of ONNX Runtime; returns the unchecked program of another engine."""

converters: Registry[Converter] = Registry("conversion of ONNX files", ("edgepress.export",))


def convert(program: Program, to: str, samples: NDArray[np.uint8]) -> Program:
    """Return `program`, a bundle of ONNX Runtime, in the format `to`, proven on `samples` to answer as it does.

    `samples` are real images, uint8 `(N, height, width, channels)`. Raises `EdgepressError` for other bundles,
    `ParityError` where the new file differs.
    """
    from edgepress.export.parity import FLOAT, INTEGER, compare
    from edgepress.runtime.predictor import EnginePredictor

    if program.runtime != "onnxruntime":
        raise EdgepressError(f"only an ONNX file is converted, this is for {program.runtime}; export the network")
    converted = converters.get(to)(program)
    expected, got = EnginePredictor(program)(samples), EnginePredictor(converted)(samples)
    parity = compare(program.signature.task, expected, got)
    bounds = FLOAT if converted.precision == "fp32" else INTEGER
    if not (parity["max_difference"] <= bounds.max_difference and parity["rms_difference"] <= bounds.rms_difference):
        raise ParityError(
            f"the {to} file does not compute what the ONNX file does: largest difference "
            f"{parity['max_difference']:.3g} of the outputs, {bounds.max_difference:g} is allowed. Nothing was written"
        )
    return with_parity(converted, {**parity, "images": float(len(samples))})


def with_parity(program: Program, parity: dict[str, float]) -> Program:
    """Return `program` with the measured `parity`."""
    return Program(
        program.signature, program.runtime, program.precision, program.files, program.provenance, parity, program.key
    )


def from_onnx(program: Program, runtime: str, files: Mapping[str, bytes], precision: str = "", **about: Any) -> Program:
    """Return a program for `runtime` made of `program`; `about` says with what (the format's part of the provenance).

    `precision` is "" for that of the ONNX file.
    """
    provenance = {**program.provenance, "format": {**about, "from": "onnx"}}
    return Program(program.signature, runtime, precision or program.precision, files, provenance)


def through_onnx(model: Model, to: Converter, samples: NDArray[np.uint8], tolerance: float | None = None) -> Program:
    """Export `model` by way of its ONNX file and `to`; return the program once it passed the parity gate.

    `tolerance` is the rms difference allowed to an arithmetic of fewer digits than float32.
    """
    from edgepress.export.onnx import FILE, provenance, to_onnx
    from edgepress.export.parity import Bounds, check

    plain = Program(model.signature, "onnxruntime", model.precision, {FILE: to_onnx(model)}, provenance(model))
    bounds = None if tolerance is None else Bounds(max(0.1, 2 * tolerance), tolerance, 97.0)
    return check(model, to(plain), samples, bounds)
