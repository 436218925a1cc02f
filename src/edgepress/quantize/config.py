"""What post-training quantization is told. Light: the stage and the recipe check read it without torch."""

from dataclasses import dataclass, field
from typing import Literal

from edgepress.core.config import STRICT

EstimatorName = Literal["minmax", "percentile", "mse", "entropy"]
RangeName = Literal["auto", "minmax", "mse"]
Granularity = Literal["per_channel", "per_tensor"]
Rounding = Literal["nearest", "learned"]

LEAST_BITS, MOST_BITS, FLOAT_BITS = 2, 8, 32


@dataclass(frozen=True)
class Budget:
    """What the weights may take: `bytes` of packed weights with their scales and biases, the graph around them not
    counted."""

    __pydantic_config__ = STRICT

    bytes: int | None = None
    ms: float | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with the fields."""
        if self.ms is not None:
            return [
                "budget: milliseconds do not depend on the bits of weights, since all widths are unpacked to INT8 and "
                "run by the same kernels; give bytes, as in `budget: {bytes: 98000}`"
            ]
        if self.bytes is None or self.bytes < 1:
            return [f"budget: give the bytes that weights, scales and biases may take, 1 or more; got {self.bytes}"]
        return []


@dataclass(frozen=True)
class QuantizeConfig:
    """Bit widths, and how ranges and codes are chosen.

    Weights are symmetric with one scale per output channel (`per_tensor`: the same one for all channels of a layer),
    2 to 8 bits wide; the first and the last layer keep `first_last` bits where that is more. `bits` names layers that
    get a width of their own, 32 for a layer left in floating point. With a `budget`, each layer gets the bits from 2
    to `weights` with which the outputs suffer least.

    Activations are unsigned with one scale per tensor: the pairing (U8S8) for which x86 processors with VNNI
    have an instruction. With signed activations ONNX Runtime 1.31 took 2.2 times as long for a ResNet-8 and 30 times
    for a MobileNetV3-Small (1 thread, batch 1). The zero point is free, or in the middle where `symmetric`.

    `estimator` chooses the ranges of activations, `weight_ranges` those of weights (`auto`: least squared error below 8
    bits, the extremes at 8); `equalization`, `rounding: learned` and `bias_correction` are explained in their files.

    Defaults by the error of the logits of the public ResNet-20 on 1,000 training images not calibrated on (relative
    rms, with bias correction): mse 0.026, minmax 0.028, percentile 0.036. Searching the weight ranges gained nothing.
    """

    __pydantic_config__ = STRICT

    weights: int = 8
    activations: int = 8
    estimator: EstimatorName = "mse"
    bias_correction: bool = True
    first_last: int = 8
    granularity: Granularity = "per_channel"
    symmetric: bool = False
    weight_ranges: RangeName = "auto"
    equalization: bool = False
    rounding: Rounding = "nearest"
    bits: dict[str, int] = field(default_factory=dict[str, int])
    budget: Budget | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with the fields beyond their types."""
        found = [
            f"{name}: {bits} bits are not possible; {LEAST_BITS} to {MOST_BITS} are"
            for name in ("weights", "activations", "first_last")
            if not LEAST_BITS <= (bits := getattr(self, name)) <= MOST_BITS
        ]
        found += [
            f"bits: {name}: {bits} bits are not possible; {LEAST_BITS} to {MOST_BITS} are, or {FLOAT_BITS} for a layer "
            "in floating point"
            for name, bits in self.bits.items()
            if bits != FLOAT_BITS and not LEAST_BITS <= bits <= MOST_BITS
        ]
        return found + (self.budget.problems() if self.budget else [])
