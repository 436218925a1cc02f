"""The stage `quantize`: 8-bit weights and activations from a few hundred images, without training."""

from dataclasses import dataclass

from edgepress.core.artifact import Artifact, Model
from edgepress.core.stage import Context, Stage, stages
from edgepress.quantize.config import EstimatorName, QuantizeConfig


@stages.register("quantize")
@dataclass(frozen=True)
class Quantize(Stage):
    """Round weights and activations to integers (post-training quantization).

    `weights` and `activations` are bit widths; `calibrate` images of the train split show the ranges, chosen by
    `estimator`; `bias_correction` takes back the shift that rounding gives to the mean of each channel.
    """

    weights: int = 8
    activations: int = 8
    calibrate: int = 512
    estimator: EstimatorName = "mse"
    bias_correction: bool = True

    @property
    def config(self) -> QuantizeConfig:
        """The fields that layer 0 knows."""
        return QuantizeConfig(self.weights, self.activations, self.estimator, self.bias_correction)

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        problems = self.config.problems()
        if self.calibrate < 1:
            problems.append(f"calibrate: at least one image is needed, better a few hundred; got {self.calibrate}")
        return problems

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the quantized model."""
        from edgepress.quantize.ptq import quantize

        assert isinstance(artifact, Model)
        images = ctx.data.calibration(self.calibrate, ctx.seed)
        result = quantize(artifact, images, self.config)
        in_float = result.edits[-1]["in_float"]
        if in_float:
            ctx.progress.say(f"left in floating point, {len(in_float)} operations: {'; '.join(in_float[:6])}")
        return result
