"""The stage `quantize`: integer weights and activations from a few hundred images, without training."""

from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from edgepress.core.artifact import Artifact, Model
from edgepress.core.stage import Context, Stage, stages
from edgepress.quantize.config import Budget, EstimatorName, Granularity, QuantizeConfig, RangeName

CLIMBED = ("bias_correction", "weight_ranges", "equalization", "rounding")
"""The methods that `max_drop` tries one by one."""


@stages.register("quantize")
@dataclass(frozen=True)
class Quantize(Stage):
    """Round weights and activations to integers (post-training quantization).

    `weights` are 2 to 8 bits wide, the first and the last layer at least `first_last`; `bits` gives layers a width of
    their own (32: floating point), and with `budget: {bytes: N}` each layer gets the bits, up to `weights`, with which
    the outputs suffer least. `activations` have 8 bits; fewer need training (the stage `qat`).

    `calibrate` images of the train split show the ranges: `estimator` chooses those of activations (`symmetric`: with
    the zero point in the middle), `weight_ranges` those of weights, one per channel or `granularity: per_tensor`.
    `rounding: learned` chooses the codes that keep each layer's output (`auto`: below 8 bits), `equalization` moves
    factors between layers, `bias_correction` takes back the shift that rounding gives to the mean of each channel.

    With `max_drop`, points of the task's score, these methods are tried in order of their cost, only until the exported
    file loses no more than that against the floating-point one on `validate` images of the validation split (0: all).
    """

    version: ClassVar[int] = 4  # 3 rounded what layers left in float read

    weights: int = 8
    activations: int = 8
    calibrate: int = 512
    estimator: EstimatorName = "mse"
    bias_correction: bool = True
    first_last: int = 8
    granularity: Granularity = "per_channel"
    symmetric: bool = False
    weight_ranges: RangeName = "auto"
    equalization: bool = False
    rounding: Literal["auto", "nearest", "learned"] = "auto"
    bits: dict[str, int] = field(default_factory=dict[str, int])
    budget: Budget | None = None
    max_drop: float | None = None
    validate: int = 0

    @property
    def config(self) -> QuantizeConfig:
        """The fields that layer 0 knows."""
        known = {f.name: getattr(self, f.name) for f in fields(QuantizeConfig)}
        if self.rounding == "auto":
            narrow = min([self.weights, *self.bits.values()]) < 8 or self.budget is not None
            known["rounding"] = "learned" if narrow else "nearest"
        return QuantizeConfig(**known)

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        problems = self.config.problems()
        if 2 <= self.activations < 8:
            problems.append(f"activations: {self.activations} bits need training: the stage `qat`; here they have 8")
        if self.calibrate < 1:
            problems.append(f"calibrate: at least one image is needed, better a few hundred; got {self.calibrate}")
        if self.max_drop is not None and self.max_drop < 0:
            problems.append(f"max_drop: points that the score may fall by, 0 or more; got {self.max_drop:g}")
        if self.validate < 0:
            problems.append(f"validate: a number of images, 0 for all; got {self.validate}")
        if self.validate and self.max_drop is None:
            problems.append("validate: nothing is scored without `max_drop`: give one, or leave it out")
        if self.max_drop is not None:
            problems += [
                f"{each.name}: the ladder of `max_drop` decides this itself: leave one of the two out"
                for each in fields(self)
                if each.name in CLIMBED and getattr(self, each.name) != each.default
            ]
        return problems

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the quantized model."""
        from edgepress.quantize.ptq import quantize

        assert isinstance(artifact, Model)
        images = ctx.data.calibration(self.calibrate, ctx.seed)
        result = quantize(artifact, images, self.config) if self.max_drop is None else self._climb(artifact, ctx)
        in_float = result.edits[-1]["in_float"]
        if in_float:
            ctx.progress.say(f"left in floating point, {len(in_float)} operations: {'; '.join(in_float[:6])}")
        if self.budget is not None:
            chosen = ", ".join(f"{name} {bits}" for name, bits in result.edits[-1]["bits"].items())
            ctx.progress.say(f"bits within the budget: {chosen}")
        return result

    def _climb(self, model: Model, ctx: Context) -> Model:
        from edgepress.quantize.judge import FileJudge
        from edgepress.quantize.ladder import climb

        assert self.max_drop is not None
        images = ctx.data.calibration(self.calibrate, ctx.seed)
        judge = FileJudge(ctx.data, self.validate, ctx.seed)
        climbed = climb(model, images, self.config, judge, self.max_drop, ctx.progress.say, judge.metric)
        ctx.notes["ladder"] = {"metric": judge.metric, "images": judge.images, **climbed.plain()}
        return climbed.model
