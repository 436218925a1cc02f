"""The stages `qat` (quantize, train with the rounding in place, convert to integers) and `search`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from edgepress.core.artifact import Artifact, Model
from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.stage import Context, stages
from edgepress.cost.budget import Budget
from edgepress.quantize.config import EstimatorName, QuantizeConfig
from edgepress.search.space import Space
from edgepress.train.stages import Fitting, wrong_alpha, wrong_mixup, wrong_temperature

if TYPE_CHECKING:
    from edgepress.data.base import Data
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
    later: ClassVar[tuple[str, ...]] = (*Fitting.later, "rounded")

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
        wrong += wrong_temperature(self.temperature) + wrong_alpha(self.alpha) + wrong_mixup(self.augment, self.views)
        if self.teacher and not self.alpha:
            wrong.append("field 'teacher' says nothing at 'alpha: 0': leave it out, or let alpha be above 0")
        return wrong

    def smoke(self) -> Self:
        """Return a short trial of this stage."""
        return replace(super().smoke(), calibrate=min(self.calibrate, 32))

    def objective(self) -> "Objective":
        """Return the weighted sum of both losses; the first is there as `alpha` is above 0."""
        from edgepress.train.words import kd_terms, objective_of

        terms, labels = kd_terms(self.temperature, self.alpha)
        return objective_of(terms, self.label_smoothing, labels)

    def dry_run(
        self, artifact: Artifact | None, references: Mapping[str, Artifact], data: "Data", seed: int
    ) -> Artifact | None:
        """Return None: its graph is another one than the network it goes on from."""
        return None

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        from edgepress.quantize.ptq import quantize
        from edgepress.quantize.qat import finish, prepare
        from edgepress.train.run import run_fit

        assert isinstance(artifact, Model)
        teacher = ctx.references[f"${self.teacher.removeprefix('$')}"] if self.teacher else artifact
        images = ctx.data.calibration(self.calibrate, ctx.seed)
        prepared = prepare(quantize(artifact, images, self.config), self.learn, self.rounded)
        trained = run_fit(self, prepared, ctx, teacher if self.alpha else None)
        return finish(trained, images)


@stages.register("search")
@dataclass(frozen=True, kw_only=True)
class Search(Fitting):
    """Look for the best student within a budget, and give it on untrained: the next `train` or `distill` trains it.

    It chooses among networks (`models`) and values of their arguments (`space`), as in `models: [cifar_resnet8,
    cifar_resnet20], space: {width: [8, 12, 16]}`; any name that `train` takes will do. `cifar_resnet` has blocks and
    channels of each stage as arguments, `resized` the resolution, MobileNetV3 and EfficientNet the `kernel`. `budget`
    holds the limits of `cost.budget.Budget`; what is above it is not looked at further. `trials` candidates within it
    are scored: on the validation split after `epochs` of training, with the fields of `train`, or without any training
    a proxy: "synflow" or "naswot" (on `images` images). The best score wins; where scores are equal, the lower cost.

    All trials and the Pareto front of score and cost are in the notes. Every trial is kept at once: a search that was
    stopped goes on with the next one.
    """

    version: ClassVar[int] = 2  # 1 counted candidates above the budget as trials
    takes: ClassVar[str] = "nothing"

    models: tuple[str, ...]
    budget: dict[str, Any]
    space: dict[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    trials: int = 24
    score: Literal["train", "synflow", "naswot"] = "train"
    images: int = 32
    epochs: int = 2

    def wants_input(self) -> bool:
        """It starts from nothing."""
        return False

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        wrong = super().check()
        if self.model is not None:
            wrong.append("field 'model': the networks to choose from are in 'models'")
        wrong += Space(self.models, self.space).problems()
        for name, least in (("trials", 1), ("images", 2)):
            if getattr(self, name) < least:
                wrong.append(f"field {name!r} must be at least {least}, got {getattr(self, name)}")
        try:
            budget = parse(Budget, self.budget, "field 'budget'")
            wrong += budget.problems()
            if budget.speedup is not None:
                wrong.append("field 'budget': a search starts from no network, so give latency_ms in place of speedup")
        except ConfigError as error:
            wrong += error.problems
        return wrong

    def smoke(self) -> Self:
        """Return a search of three trials."""
        return replace(super().smoke(), trials=min(self.trials, 3))

    def objective(self) -> "Objective":
        """Return the task's own loss."""
        from edgepress.train.words import objective_of, read_terms

        return objective_of(read_terms(()), self.label_smoothing)

    def dry_run(
        self, artifact: Artifact | None, references: Mapping[str, Artifact], data: "Data", seed: int
    ) -> Artifact | None:
        """Return None: what it finds is known afterwards."""
        return None

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        from edgepress.chain.search import search_student

        return search_student(self, ctx)
