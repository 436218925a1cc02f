"""The stages `train` and `distill`. Distillation is training with another objective: both run the one loop."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from edgepress.core.artifact import Artifact, Model
from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.stage import Context, Stage, stages
from edgepress.train.config import Augment

if TYPE_CHECKING:
    from edgepress.data.base import Data
    from edgepress.train.objectives.base import Objective

USUAL_TEMPERATURE, USUAL_ALPHA = 4.0, 0.7
SMOKE_LR = 1e-3
"""The highest learning rate of a trial."""


@dataclass(frozen=True)
class Fitting(Stage):
    """The fields that every training shares.

    `model` starts from a fresh network of that name, built with `arguments`; without it the training goes on from the
    stage before. `augment` holds the fields of `train.config.Augment`; `views` limits the augmentations an image is
    seen in (0: a new one every epoch). `keep_zeros` lets weights that are 0 at the start stay so, as `sparsify` leaves
    them. See `train.fit.FitConfig` for the rest.
    """

    takes: ClassVar[str] = "model"
    later: ClassVar[tuple[str, ...]] = ("keep_zeros",)

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
    keep_zeros: bool = False

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
        if self.keep_zeros and self.model is not None:
            wrong.append(
                "field 'keep_zeros' belongs to a network that `sparsify` has thinned out, and 'model' is fresh"
            )
        if self.arguments and self.model is None:
            wrong.append("field 'arguments' belongs to a 'model', and none is named")
        try:
            parse(Augment, self.augment, "field 'augment'")
        except ConfigError as error:
            wrong += error.problems
        return wrong

    def smoke(self) -> Self:
        """Return one epoch of this training, in small batches so that it has some steps.

        They are too few for the statistics of batch norms: at a usual rate the features of a deep network, once it is
        evaluated, are so large that its student and every file of it come to nothing.
        """
        return replace(self, epochs=1, batch=min(self.batch, 64), lr=min(self.lr, SMOKE_LR), views=min(self.views, 1))

    @abstractmethod
    def objective(self) -> "Objective":
        """Return what this training minimizes."""

    def dry_run(
        self, artifact: Artifact | None, references: Mapping[str, Artifact], data: "Data", seed: int
    ) -> Artifact | None:
        """Return the network before its training; raise `ConfigError` where it, its teacher and the losses do not fit
        together, as far as they are known."""
        from edgepress.train.ahead import untrained

        assert artifact is None or isinstance(artifact, Model)
        return untrained(self, artifact, references, data, seed)

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        from edgepress.train.run import run_fit

        assert artifact is None or isinstance(artifact, Model)
        return run_fit(self, artifact, ctx)


def wrong_temperature(value: float) -> list[str]:
    """Return what is wrong with a temperature that softens outputs."""
    return [] if value > 0 and math.isfinite(value) else [f"field 'temperature' must be above 0, got {value}"]


def wrong_alpha(value: float) -> list[str]:
    """Return what is wrong with the share of the loss that compares with the teacher."""
    return [] if 0 <= value <= 1 else [f"field 'alpha' must be in [0, 1], got {value}"]


def wrong_mixup(augment: dict[str, Any], views: int) -> list[str]:
    """Return what is wrong with blended images where the teacher's outputs are kept."""
    if not (augment.get("mixup") and views):
        return []
    return ["mixup blends images, so kept teacher outputs do not fit them: set 'views: 0' or leave mixup out"]


@stages.register("train")
@dataclass(frozen=True)
class Train(Fitting):
    """Train a network on the labels.

    `losses` are added to the loss on the labels, such as `{entropy: {weight: 0.1}}` for a teacher whose soft labels say
    more; each is a name, or a name with its fields, its `weight` and its `warmup`, the share of the training over which
    that weight rises from 0. An entry `supervised` replaces the loss on labels.
    """

    later: ClassVar[tuple[str, ...]] = (*Fitting.later, "losses")

    losses: tuple[str | dict[str, Any], ...] = ()

    def check(self) -> list[str]:
        """Return the fields that are wrong."""
        from edgepress.train.words import read_terms, without_teacher

        try:
            return super().check() + without_teacher(read_terms(self.losses))
        except ConfigError as error:
            return super().check() + error.problems

    def objective(self) -> "Objective":
        """Return the task's own loss and what is added to it."""
        from edgepress.train.words import objective_of, read_terms

        return objective_of(read_terms(self.losses), self.label_smoothing)


@stages.register("distill")
@dataclass(frozen=True, kw_only=True)
class Distill(Fitting):
    """Train a student on labels and on what a teacher says.

    `method` is a loss at the weights of its paper: `kd` is `alpha * T^2 * KL(teacher_T || student_T) + (1 - alpha) *
    CE` (Hinton et al., 2015) with the fields `temperature` (4) and `alpha` (0.7), either of which, if set, means `kd`
    where no method is named. `auto`, the default, chooses by the kind of pair (`train.auto`) and says why. `losses`
    instead is a list with fields, `weight` and `warmup`, as in `[{dkd: {beta: 8}}, {review: {weight: 0.6}}]`, beside
    the loss on the labels at weight 1 (`{supervised: {weight: 0.5}}` changes it). Losses on features name modules by
    path or pair them themselves.

    With `views` above 0 the teacher runs once per image and view and its outputs are kept on disk; with 0, or where
    maps are compared, it runs on every batch. Several teachers, `[$one, $other]`, speak with the weighted mean of
    their logits (`teacher_weights`); with `vote: confidence` each image weighs them by how well they know its label.
    """

    # 1 compared features that a block had added to; 2 had no rising weights; 3 gave other families plain KD; 4 compared
    # no features where nothing was said; 5 gave `margin` a twelfth of its paper's weight; 6 paired
    # the levels of `review` by their size
    version: ClassVar[int] = 7
    references: ClassVar[tuple[str, ...]] = ("teacher",)
    later: ClassVar[tuple[str, ...]] = (*Fitting.later, "method", "losses", "teacher_weights", "vote")

    teacher: str | tuple[str, ...]
    temperature: float | None = None
    alpha: float | None = None
    views: int = 8
    method: str = "auto"
    losses: tuple[str | dict[str, Any], ...] = ()
    teacher_weights: tuple[float, ...] = ()
    vote: Literal["mean", "confidence"] = "mean"

    @property
    def teachers(self) -> tuple[str, ...]:
        """The names of the teachers."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher

    @property
    def undecided(self) -> bool:
        """True where the losses are chosen by the kind of pair, once the networks are known."""
        return self.method == "auto" and not self.losses and not self._plain

    @property
    def _plain(self) -> bool:
        """True where a field of plain distillation is set."""
        return self.alpha is not None or self.temperature is not None

    def check(self) -> list[str]:
        """Return the fields that are wrong."""
        wrong = super().check()
        wrong += wrong_temperature(self.temperature) if self.temperature is not None else []
        wrong += wrong_alpha(self.alpha) if self.alpha is not None else []
        if self.alpha == 0:
            wrong.append("field 'teacher' says nothing at 'alpha: 0': let alpha be above 0, or use the stage 'train'")
        wrong += self._wrong_teachers()
        if (self.method not in ("auto", "kd") or self.losses) and self._plain:
            wrong.append(
                "fields 'temperature' and 'alpha' belong to the method 'kd'; of another loss they are set in 'losses', "
                "as in losses: [{dkd: {temperature: 4}}]"
            )
        if self.losses and self.method != "auto":
            wrong.append("fields 'method' and 'losses' say the same thing twice: leave one of them out")
        try:
            return wrong + self._wrong_losses(self.objective())
        except ConfigError as error:
            return wrong + error.problems
        except ValueError:  # of the temperature, which is named above
            return wrong

    def _wrong_teachers(self) -> list[str]:
        wrong: list[str] = []
        count = len(self.teachers)
        if not count or not all(self.teachers):
            wrong.append("field 'teacher' must name at least one earlier stage, as in 'teacher: $teacher'")
        if len(set(self.teachers)) != count:
            wrong.append("field 'teacher' names the same stage twice: give it a larger share in 'teacher_weights'")
        if self.teacher_weights and len(self.teacher_weights) != count:
            wrong.append(f"field 'teacher_weights' must hold one weight per teacher, got {len(self.teacher_weights)}")
        if any(weight <= 0 for weight in self.teacher_weights):
            wrong.append(f"field 'teacher_weights' must be above 0, got {list(self.teacher_weights)}")
        if self.vote != "mean" and count < 2:
            wrong.append("field 'vote' needs at least two teachers")
        return wrong

    def _wrong_losses(self, objective: "Objective") -> list[str]:
        from edgepress.train.words import teaching

        wrong: list[str] = []
        if self.losses and not objective.needs_teacher:
            wrong.append(f"field 'losses': none of them learns from the teacher; these do: {', '.join(teaching())}")
        if objective.features and len(self.teachers) > 1:
            wrong.append("losses on features need one teacher; several teachers speak through their logits")
        return wrong + ([] if objective.features else wrong_mixup(self.augment, self.views))

    def objective(self) -> "Objective":
        """Return the weighted sum of all losses."""
        from edgepress.train.words import kd_terms, method_terms, objective_of, read_terms

        if self.losses:
            return objective_of(read_terms(self.losses), self.label_smoothing)
        if self.method in ("auto", "kd"):
            temperature = USUAL_TEMPERATURE if self.temperature is None else self.temperature
            terms, labels = kd_terms(temperature, USUAL_ALPHA if self.alpha is None else self.alpha)
        else:
            terms, labels = method_terms(self.method)
        return objective_of(terms, self.label_smoothing, labels)


@stages.register("mutual")
@dataclass(frozen=True)
class Mutual(Fitting):
    """Train two networks together, each on the labels and on what the other says, and keep the first.

    `peer` names the second network, built with `peer_arguments`; without it that is the first from another random
    start. The loss of each is `CE + weight * T^2 * KL(other_T || own_T)` (deep mutual learning, Zhang et al., CVPR
    2018). With `turns: alternating` both learn from the labels in even steps and from each other in odd ones.
    """

    peer: str | None = None
    peer_arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    temperature: float = 1.0
    weight: float = 1.0
    turns: Literal["together", "alternating"] = "together"

    def check(self) -> list[str]:
        """Return the fields that are wrong."""
        wrong = super().check() + wrong_temperature(self.temperature)
        if not self.weight > 0:
            wrong.append(f"field 'weight' must be above 0, got {self.weight}")
        if self.peer is None and self.peer_arguments:
            wrong.append("field 'peer_arguments' belongs to a 'peer', and none is named")
        return wrong

    def objective(self) -> "Objective":
        """Return what each of the two minimizes."""
        from edgepress.train.objectives.base import Objective
        from edgepress.train.objectives.kd import KD
        from edgepress.train.objectives.supervised import Supervised

        terms = (("kd", self.weight, KD(self.temperature)), ("ce", 1.0, Supervised(self.label_smoothing)))
        if self.turns == "together":
            return Objective(terms)
        from edgepress.train.peer import Alternating

        return Alternating(terms)
