"""The stages `prune` and `sparsify`."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from edgepress.core.artifact import Artifact, Model
from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.stage import Context, Stage, stages
from edgepress.cost.budget import Budget
from edgepress.prune.config import Pattern, PruneConfig, Scope, SparsifyConfig


@stages.register("prune")
@dataclass(frozen=True, kw_only=True)
class Prune(Stage):
    """Take channels, attention heads and residual blocks out of a network until it fits `budget`, without training.

    `budget` holds the fields of `cost.budget.Budget`, for example `{latency_ms: 2.0, runtime: onnxruntime}`; the other
    fields are those of `prune.config.PruneConfig`. Scores look at `images` images of the train split; the
    statistics of batch norms are moved by what `repair` images show of the change (0: left as they are).
    """

    version: ClassVar[int] = 4  # 2 counted what follows a residual stream once per block; 3 left up to 4 % of a budget

    budget: dict[str, Any]
    score: str = "taylor"
    scope: Scope = "global"
    protect: tuple[str, ...] = ()
    minimum: int = 4
    multiple: int = 0
    blocks: bool = True
    heads: bool = True
    fraction: float = 1.0
    images: int = 512
    repair: int = 1024

    @property
    def config(self) -> PruneConfig:
        """The fields that layer 0 knows."""
        return PruneConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(PruneConfig)})

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        problems = self.config.problems()
        try:
            problems += parse(Budget, self.budget, "field 'budget'").problems()
        except ConfigError as error:
            problems += error.problems
        problems += [f"{n}: 0 or more, got {getattr(self, n)}" for n in ("images", "repair") if getattr(self, n) < 0]
        return problems

    def smoke(self) -> Self:
        """Return this pruning with few images."""
        return dataclasses.replace(self, images=min(self.images, 64), repair=min(self.repair, 64))

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the pruned model."""
        import numpy as np

        from edgepress.prune.prune import prune, summary

        assert isinstance(artifact, Model)
        order = np.random.default_rng(ctx.seed).permutation(len(ctx.data.train))
        images, targets = ctx.data.train.read(np.sort(order[: self.images]))
        repair = ctx.data.train.read(np.sort(order[: self.repair]))[0] if self.repair else None
        budget = parse(Budget, self.budget, "prune: budget")
        result, report = prune(artifact, budget, self.config, images, targets, repair, ctx.cache, ctx.seed)
        ctx.notes.update(summary(report))
        words = [
            f"{k} {report.before[k]:.5g} -> {report.after[k]:.5g} (asked {v:.5g})" for k, v in report.asked.items()
        ]
        ctx.progress.say(f"{'; '.join(words)}; {len(report.widths)} widths, {len(report.dropped)} blocks gone")
        if report.fixed:
            left = "; ".join(f"{path}: {why}" for path, why in list(report.fixed.items())[:4])
            ctx.progress.say(f"left whole, {len(report.fixed)} groups: {left}")
        return result


@stages.register("sparsify")
@dataclass(frozen=True, kw_only=True)
class Sparsify(Stage):
    """Set weights to zero: single ones, two of every four, or blocks, those of least magnitude; without training.

    `sparsity` is the share that goes (with `pattern: 2:4` always a half); `block` is the outputs and inputs of a block;
    `protect` holds globs of layers left alone; `step` of `steps` is the place on the cubic schedule of Zhu and Gupta,
    2017; a training behind it keeps the zeros with `keep_zeros: true`. The file gets smaller where it is compressed. No
    engine here gets faster by it: ONNX Runtime multiplies with zeros as with other numbers.
    """

    sparsity: float = 0.5
    pattern: Pattern = "single"
    block: tuple[int, int] = (16, 1)
    protect: tuple[str, ...] = ()
    step: int = 1
    steps: int = 1

    @property
    def config(self) -> SparsifyConfig:
        """The fields that layer 0 knows."""
        return SparsifyConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(SparsifyConfig)})

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        return self.config.problems()

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the model with its weights thinned out."""
        from edgepress.prune.sparse import sparsify

        assert isinstance(artifact, Model)
        result, report = sparsify(artifact, self.config)
        ctx.notes.update(dataclasses.asdict(report))
        ctx.progress.say(
            f"{report.zeros} of {report.weights} weights are zero; weights compress from {report.bytes_before} to "
            f"{report.bytes_after} bytes (zlib); no engine gets faster by it"
        )
        return result


@stages.register("fastnas")
@dataclass(frozen=True, kw_only=True)
class FastNas(Stage):
    """Choose the widths of a network by the search of NVIDIA ModelOpt (extra `fastnas`), without training.

    `budget` limits `macs`, `params` or both; widths are multiples of `multiple`. A candidate is scored on `images`
    images of the validation split, its batch norms are estimated on `calibrate` images of the train split.
    """

    budget: dict[str, Any]
    multiple: int = 8
    images: int = 1000
    calibrate: int = 512

    version: ClassVar[int] = 2

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        problems: list[str] = []
        try:
            budget = parse(Budget, self.budget, "field 'budget'")
            problems += budget.problems()
            other = [name for name in budget.given if name not in ("macs", "params")]
            if other:
                problems.append(f"field 'budget': FastNAS knows macs and params, not {', '.join(other)}; take `prune`")
        except ConfigError as error:
            problems += error.problems
        for name in ("multiple", "images", "calibrate"):
            if getattr(self, name) < 1:
                problems.append(f"field {name!r} must be at least 1, got {getattr(self, name)}")
        return problems

    def smoke(self) -> Self:
        """Return this search with few images."""
        return dataclasses.replace(self, images=min(self.images, 64), calibrate=min(self.calibrate, 64))

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the network with the widths found."""
        from edgepress.cost.measure import measured
        from edgepress.data.base import spread
        from edgepress.prune.fastnas import fastnas

        assert isinstance(artifact, Model)
        budget = parse(Budget, self.budget, "fastnas: budget")
        images, targets = ctx.data.val.read(spread(ctx.data.val, self.images))
        calibration = ctx.data.calibration(self.calibrate, ctx.seed)
        result, score = fastnas(artifact, budget, self.multiple, calibration, images, targets, ctx.seed)
        before, after = (
            {kind: measured(model.module, model.signature, kind, budget) for kind in budget.limits}
            for model in (artifact, result)
        )
        ctx.notes.update(score=score, before=before, after=after)
        words = [f"{kind} {before[kind]:,.0f} -> {after[kind]:,.0f}" for kind in budget.limits]
        ctx.progress.say(f"{'; '.join(words)}; {score:.2f} % on {len(images)} validation images")
        return result
