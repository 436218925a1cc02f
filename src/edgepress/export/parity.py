"""The parity gate: an exported file leaves the workshop only if it computes what the network computes.

Both sides see the same real images. A floating-point file differs by the order of its sums only: 5e-7 of the largest
output was measured over thirteen families. A network of integers is held against itself with the same integers
(`export.integers`): ONNX Runtime, LiteRT and ExecuTorch then decide alike on 99 to 100 % of 256 images, with eight
networks (rows `parity` of `benchmarks/results/runtimes.csv`). A bias left out, or a wrong scale, shows at once.

An engine that leaves roundings out (OpenVINO adds inside a convolution) is near the float network, and further away:
two exact ways to round end up about as far apart as rounding moved the network itself, since a difference of a
millionth before a rounding is one of a whole step, for one value in a million, after it, and every further rounding
spreads it. MobileNetV3-Small for 32x32 images, 126 roundings deep: rounding moves its outputs by 0.049 rms, OpenVINO is
0.053 away. Where rounding moves a network much, the bounds follow. A step of a narrow activation is larger: with 2 bits
it is a third of a range.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program, Signature
from edgepress.core.errors import DataError, ParityError
from edgepress.export.fake import Quantizer
from edgepress.export.integers import predictor
from edgepress.runtime.predictor import EnginePredictor
from edgepress.tasks.base import tasks


@dataclass(frozen=True)
class Bounds:
    """What is still taken for the same: the largest difference as a share of the largest output, the root mean square
    of the differences as a share of that of the outputs, and the percentage of decisions that agree."""

    max_difference: float
    rms_difference: float
    agreement: float


FLOAT = Bounds(max_difference=1e-3, rms_difference=1e-4, agreement=99.9)
INTEGER = Bounds(max_difference=0.1, rms_difference=0.04, agreement=99.0)

LOOSEST = Bounds(max_difference=0.3, rms_difference=0.15, agreement=99.0)
"""What no rounding excuses."""

MOST_NUMBERS = 64 << 20
"""Outputs are held in memory several times over: these take 256 MB each time."""


def check(model: Model, program: Program, samples: NDArray[np.uint8], bounds: Bounds | None = None) -> Program:
    """Return `program` with the measured `parity`; raise `ParityError` with the numbers where it is out of `bounds`.

    `samples` are real images, uint8 `(N, height, width, channels)`. The default bounds are those of the precision.
    """
    if len(samples) == 0:
        raise DataError("there are no images to compare the exported file with the network on; give at least one")
    bounds = bounds or bounds_for(model.precision)
    expected, got = predictor(model, 64)(samples), EnginePredictor(program)(samples)
    if not np.isfinite(expected).all():
        raise ParityError(f"{model.builder.name} itself gives values that are not finite; nothing was written")
    if model.precision != "fp32":
        bounds = _beside_rounding(bounds, model, samples, expected)
    what = f"the exported {program.runtime} file does not compute what {model.builder.name} ({model.precision}) does"
    return proven(program, bounds, expected, got, what)


def proven(
    program: Program, bounds: Bounds, expected: NDArray[np.float32], got: NDArray[np.float32], problem: str
) -> Program:
    """Return `program` with the `parity` of what it `got`; raise `ParityError`, which begins with the `problem`, where
    that is out of `bounds`."""
    task = program.signature.task
    parity = compare(task, expected, got)
    if wrong := _broken(bounds, parity, task, expected):
        raise ParityError(f"{problem}, seen on {len(expected)} images: {'; '.join(wrong)}. Nothing was written")
    return replace(program, parity={**parity, "images": float(len(expected))})


def enough(signature: Signature, wanted: int) -> int:
    """Return how many images are compared: `wanted`, or as many as `MOST_NUMBERS` of outputs are of. Of a class map
    every pixel is a decision: a few images have more of them than thousands of labels."""
    pixels = signature.input.height * signature.input.width if signature.task == "segmentation" else 1
    return max(1, min(wanted, MOST_NUMBERS // (pixels * len(signature.labels))))


def _broken(bounds: Bounds, parity: dict[str, float], task: str, expected: NDArray[np.float32]) -> list[str]:
    """Return what of `bounds` the measured `parity` does not keep, in words."""
    found = [
        f"{name.replace('_', ' ')} {parity[name]:.4g}, at most {limit:.4g} is allowed"
        for name, limit in (("max_difference", bounds.max_difference), ("rms_difference", bounds.rms_difference))
        if not parity[name] <= limit  # NaN is not below any bound
    ]
    least = min(bounds.agreement, _agreement_of_ties(task, expected, parity["rms_difference"]))
    if parity["agreement"] < least:
        found.append(f"{parity['agreement']:.2f} % of the decisions agree, at least {least:.2f} % must")
    return found


def bounds_for(precision: str, tolerance: float | None = None) -> Bounds:
    """Return the bounds for a network of this precision, `fp32` or such as `w4a8`; `tolerance` is the rms difference
    allowed to an arithmetic with fewer digits than float32.

    The largest difference may be one step of the activations where that is above the bound of 8 bits; the bounds on all
    outputs and decisions together stay.
    """
    if tolerance is not None:
        return Bounds(max(0.1, 2 * tolerance), tolerance, 97.0)
    if precision == "fp32":
        return FLOAT
    narrow = re.fullmatch(r"w\d+a(\d+)", precision)
    step = 1 / (2 ** int(narrow.group(1)) - 1) if narrow else 0.0
    return replace(INTEGER, max_difference=max(INTEGER.max_difference, step))


def _beside_rounding(bounds: Bounds, model: Model, samples: NDArray[np.uint8], expected: NDArray[np.float32]) -> Bounds:
    """Return `bounds`, wider where rounding moves the outputs of `model` so far that steps of it must differ."""
    with _unrounded(model):
        moved = compare(model.signature.task, predictor(model, 64)(samples), expected)["rms_difference"]
    return replace(
        bounds,
        max_difference=max(bounds.max_difference, min(3 * moved, LOOSEST.max_difference)),
        rms_difference=max(bounds.rms_difference, min(1.5 * moved, LOOSEST.rms_difference)),
    )


@contextlib.contextmanager
def _unrounded(model: Model) -> Iterator[None]:
    """Let `model` compute with floating-point numbers for the block."""
    on = [part for part in model.module.modules() if isinstance(part, Quantizer) and part.enabled]
    for part in on:
        part.enabled = False
    try:
        yield
    finally:
        for part in on:
            part.enabled = True


def compare(task: str, expected: NDArray[np.float32], got: NDArray[np.float32]) -> dict[str, float]:
    """Return `max_difference` and `rms_difference` relative to the expected outputs, and `agreement` in percent."""
    if expected.shape != got.shape:
        raise ParityError(f"the network gives outputs of shape {expected.shape}, the exported file {got.shape}")
    difference = got.astype(np.float64) - expected
    largest = max(float(np.abs(expected).max()), 1e-12)
    return {
        "max_difference": float(np.abs(difference).max()) / largest,
        "rms_difference": _rms(difference) / max(_rms(expected), 1e-12),
        "agreement": float(tasks.get(task).agreement(expected, got)),
    }


def _agreement_of_ties(task: str, expected: NDArray[np.float32], rms_difference: float) -> float:
    """Return the agreement, in percent, that the network has with itself under noise of twice this rms difference.

    Where a network cannot tell its classes apart (untrained, or trained for one step in a smoke run), decisions fall
    either way under the smallest rounding. That must not fail the gate: the bounds on the differences do the guarding.
    """
    noise = np.random.default_rng(0).standard_normal(expected.shape) * (2 * rms_difference * _rms(expected))
    kept = tasks.get(task).agreement(expected, (expected + noise).astype(np.float32))
    decisions = expected.size // expected.shape[1]
    return float(kept) - 100 * 2 / decisions


def _rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))
