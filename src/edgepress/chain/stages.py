"""The stage `qat`: quantize, train with the rounding in place, convert to integers."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from edgepress.core.artifact import Artifact, Model
from edgepress.core.stage import Context, stages
from edgepress.quantize.config import EstimatorName, QuantizeConfig
from edgepress.train.stages import Fitting

if TYPE_CHECKING:
    from edgepress.train.objectives.base import Objective

NARROW = (2, 3, 4, 8)


@stages.register("qat")
@dataclass(frozen=True, kw_only=True)
class Qat(Fitting):
    """Quantization-aware training: the network learns under the rounding that its integers will have.

    `weights` and `activations` are bit widths (8, 4, 3 or 2); the first and the last layer keep `first_last` bits for
    their weights and 8 for what they read. Step sizes are learned (LSQ, Esser et al. 2020), from ranges that
    `calibrate` training images show. The network before rounding, or `teacher` where one is named, teaches as in
    `distill` with `temperature` and `alpha`. With `learn: narrow` the training does not see roundings to 8 bits
    where there are narrower ones: they cost time and change next to nothing. `rounded` below 1 rounds only that share
    of a weight at each step, so that the other values learn undisturbed (Quant-Noise, Fan et al. 2021).
    """

    references: ClassVar[tuple[str, ...]] = ("teacher",)
    later: ClassVar[tuple[str, ...]] = ("rounded",)

    weights: int = 4
    activations: int = 8
    first_last: int = 8
    learn: Literal["narrow", "all"] = "narrow"
    rounded: float = 1.0
    calibrate: int = 512
    estimator: EstimatorName = "mse"
    teacher: str | None = None
    temperature: float = 4.0
    alpha: float = 0.9
    lr: float = 0.02
    weight_decay: float = 1e-4
    views: int = 8

    @property
    def config(self) -> QuantizeConfig:
        """How the network is quantized before the training."""
        return QuantizeConfig(
            weights=self.weights,
            activations=self.activations,
            first_last=self.first_last,
            estimator=self.estimator,
            bias_correction=False,
        )

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        wrong = super().check()
        for name in ("weights", "activations", "first_last"):
            if getattr(self, name) not in NARROW:
                wrong.append(f"field {name!r} must be 8, 4, 3 or 2 bits, got {getattr(self, name)}")
        if self.model is not None:
            wrong.append("field 'model': qat goes on from a trained network; train it in a stage before this one")
        if not 0 < self.rounded <= 1:
            wrong.append(f"field 'rounded' must be a share in (0, 1], got {self.rounded}")
        if self.calibrate < 1:
            wrong.append(f"field 'calibrate' must be at least 1 image, got {self.calibrate}")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            wrong.append(f"field 'temperature' must be above 0, got {self.temperature}")
        if not 0 <= self.alpha <= 1:
            wrong.append(f"field 'alpha' must be in [0, 1], got {self.alpha}")
        if self.augment.get("mixup") and self.views:
            wrong.append(
                "mixup blends images, so kept teacher outputs do not fit them: set 'views: 0' or leave mixup out"
            )
        return wrong

    def smoke(self) -> Self:
        """Return a short trial of this stage."""
        return replace(super().smoke(), calibrate=min(self.calibrate, 32))

    def objective(self) -> "Objective":
        """Return the weighted sum of both losses; the first is there as `alpha` is above 0."""
        from edgepress.train.objectives.base import Objective
        from edgepress.train.objectives.kd import KD
        from edgepress.train.objectives.supervised import Supervised

        soft, hard = KD(self.temperature), Supervised(self.label_smoothing)
        return Objective((("kd", self.alpha, soft), ("ce", 1.0 - self.alpha, hard)))

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        from edgepress.quantize.ptq import quantize
        from edgepress.quantize.qat import finish, prepare
        from edgepress.train.run import run_fit

        assert isinstance(artifact, Model)
        teacher = ctx.references[self.teacher] if self.teacher else artifact
        images = ctx.data.calibration(self.calibrate, ctx.seed)
        prepared = prepare(quantize(artifact, images, self.config), self.learn, self.rounded)
        trained = run_fit(self, prepared, ctx, teacher if self.alpha else None)
        return finish(trained, images)
