"""What post-training quantization is told. Light: the stage and the recipe check read it without torch."""

from dataclasses import dataclass
from typing import Literal

from edgepress.core.config import STRICT

EstimatorName = Literal["minmax", "percentile", "mse"]


@dataclass(frozen=True)
class QuantizeConfig:
    """Bit widths, and how ranges are chosen.

    Weights are symmetric with one scale per output channel; activations are unsigned with a zero point, one scale
    per tensor: the pairing (U8S8) for which x86 processors with VNNI have an instruction.
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
