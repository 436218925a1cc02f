"""The stages `train` and `distill`. Distillation is training with another objective: both run the one loop."""

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from edgepress.core.artifact import Artifact, Model
from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.stage import Context, Stage, stages
from edgepress.train.config import Augment

if TYPE_CHECKING:
    from edgepress.train.objectives.base import Objective


@dataclass(frozen=True)
class Fitting(Stage):
    """The fields that every training shares.

    `model` starts from a fresh network of that name, built with `arguments`; without it the training goes on from the
    stage before. `augment` holds the fields of `train.config.Augment`; `views` limits the augmentations an image is
    seen in (0: a new one every epoch). See `train.fit.FitConfig` for the rest.
    """

    takes: ClassVar[str] = "model"

    epochs: int
    model: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    batch: int = 128
    lr: float = 0.1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    warmup: float = 0.05
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    precision: Literal["auto", "fp32", "bf16", "mixed"] = "auto"
    augment: dict[str, Any] = field(default_factory=dict[str, Any])
    views: int = 0

    def wants_input(self) -> bool:
        """A stage that names a model starts from it."""
        return self.model is None

    def check(self) -> list[str]:
        """Return the fields that are out of range."""
        ranges = [
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch", self.batch >= 1, "at least 1"),
            ("lr", self.lr > 0, "above 0"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("ema", 0 <= self.ema < 1, "in [0, 1)"),
            ("clip", self.clip >= 0, "0 or more"),
            ("views", self.views >= 0, "0 or more"),
        ]
        wrong = [f"field {name!r} must be {range_}, got {getattr(self, name)}" for name, ok, range_ in ranges if not ok]
        if self.arguments and self.model is None:
            wrong.append("field 'arguments' belongs to a 'model', and none is named")
        try:
            parse(Augment, self.augment, "field 'augment'")
        except ConfigError as error:
            wrong += error.problems
        return wrong

    def smoke(self) -> Self:
        """Return one epoch of this training, in small batches so that it has some steps."""
        return replace(self, epochs=1, batch=min(self.batch, 64), views=min(self.views, 1))

    @abstractmethod
    def objective(self) -> "Objective":
        """Return what this training minimizes."""

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        from edgepress.train.run import run_fit

        assert artifact is None or isinstance(artifact, Model)
        return run_fit(self, artifact, ctx)


@stages.register("train")
@dataclass(frozen=True)
class Train(Fitting):
    """Train a network on the labels."""

    def objective(self) -> "Objective":
        """Return the task's own loss."""
        from edgepress.train.objectives.base import Objective
        from edgepress.train.objectives.supervised import Supervised

        return Objective((("ce", 1.0, Supervised(self.label_smoothing)),))


@stages.register("distill")
@dataclass(frozen=True, kw_only=True)
class Distill(Fitting):
    """Train a student on labels and on a teacher's softened outputs.

    The loss is `alpha * T^2 * KL(teacher_T || student_T) + (1 - alpha) * CE` (Hinton et al., 2015). With `views` above
    0 the teacher runs once per image and view and its outputs are kept on disk; with 0 it runs on every batch.
    """

    references: ClassVar[tuple[str, ...]] = ("teacher",)

    teacher: str
    temperature: float = 4.0
    alpha: float = 0.7
    views: int = 8

    def check(self) -> list[str]:
        """Return the fields that are out of range."""
        wrong = super().check()
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            wrong.append(f"field 'temperature' must be above 0, got {self.temperature}")
        if not 0 <= self.alpha <= 1:
            wrong.append(f"field 'alpha' must be in [0, 1], got {self.alpha}")
        if self.augment.get("mixup") and self.views:
            wrong.append(
                "mixup blends images, so kept teacher outputs do not fit them: set 'views: 0' or leave mixup out"
            )
        return wrong

    def objective(self) -> "Objective":
        """Return the weighted sum of the two losses."""
        from edgepress.train.objectives.base import Objective
        from edgepress.train.objectives.kd import KD
        from edgepress.train.objectives.supervised import Supervised

        soft, hard = KD(self.temperature), Supervised(self.label_smoothing)
        return Objective((("kd", self.alpha, soft), ("ce", 1.0 - self.alpha, hard)))
