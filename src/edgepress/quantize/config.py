"""What post-training quantization is told. Light: the stage and the recipe check read it without torch."""

from dataclasses import dataclass
from typing import Literal

from edgepress.core.config import STRICT

EstimatorName = Literal["minmax", "percentile", "mse"]


@dataclass(frozen=True)
class QuantizeConfig:
    """Bit widths, and how ranges are chosen.

    Weights are symmetric with one scale per output channel; activations are unsigned with a zero point, one scale
    per tensor: the pairing (U8S8) for which x86 processors with VNNI have an instruction. With signed activations ONNX
    Runtime 1.31 took 2.2 times as long for a ResNet-8 and 30 times for a MobileNetV3-Small (1 thread, batch 1).
    Processors with AVX2 and no VNNI add pairs of products in 16 bits, which may saturate: not guarded here yet.

    Defaults by the error of the logits of the public ResNet-20 on 1,000 training images not calibrated on (relative
    rms, with bias correction): mse 0.026, minmax 0.028, percentile 0.036. Searching the weight ranges gained nothing.
    """

    __pydantic_config__ = STRICT

    weights: int = 8
    activations: int = 8
    estimator: EstimatorName = "mse"
    bias_correction: bool = True

    def problems(self) -> list[str]:
        """Return what is wrong with the fields beyond their types."""
        return [
            f"{name}: {bits} bits are not possible in this version; 8 is"
            for name, bits in (("weights", self.weights), ("activations", self.activations))
            if bits != 8
        ]
