"""The stage `factorize`."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from edgepress.core.artifact import Artifact, Model
from edgepress.core.config import dump, parse
from edgepress.core.errors import ConfigError
from edgepress.core.stage import Context, Stage, stages
from edgepress.cost.budget import Budget
from edgepress.factorize.config import ConvMethod, FactorizeConfig, LinearMethod, RankRule


@stages.register("factorize")
@dataclass(frozen=True, kw_only=True)
class Factorize(Stage):
    """Put chains of thinner layers in the place of linear layers and convolutions, without training.

    `budget` holds one limit of `cost.budget.Budget`, as in `{macs: 20000000}` or `{speedup: 2.0}`; without one the
    ranks follow `rank` (energy, vbmf, share). The other fields are those of `factorize.config.FactorizeConfig`. To
    `images` of the train split the last factor of each layer is fitted (0: by the weights alone); the statistics of
    batch norms are moved by what `repair` images show of the change (0: left as they are). A layer whose factors would
    not be cheaper, or slower where the budget is a time, stays whole; it is printed and recorded with the reason.
    """

    version: ClassVar[int] = 3  # 1 knew no ranks that lose more than 0.7 of the squared norm, 2 added losses up

    budget: dict[str, Any] = field(default_factory=dict[str, Any])
    rank: RankRule = "auto"
    conv: ConvMethod = "auto"
    linear: LinearMethod = "svd"
    energy: float = 0.9
    share: float = 0.5
    ranks: dict[str, int | tuple[int, int]] = field(default_factory=dict[str, int | tuple[int, int]])
    layers: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    multiple: int = 0
    fraction: float = 1.0
    images: int = 256
    repair: int = 1024

    @property
    def config(self) -> FactorizeConfig:
        """The fields that layer 0 knows."""
        return FactorizeConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(FactorizeConfig)})

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        problems = self.config.problems(bool(self.budget))
        if self.budget:
            try:
                budget = parse(Budget, self.budget, "field 'budget'")
                problems += budget.problems()
                if len(budget.given) > 1:
                    problems.append(f"field 'budget': give one limit, got {', '.join(budget.given)}")
            except ConfigError as error:
                problems += error.problems
        problems += [f"{n}: 0 or more, got {getattr(self, n)}" for n in ("images", "repair") if getattr(self, n) < 0]
        return problems

    def smoke(self) -> Self:
        """Return this factorization with few images."""
        return dataclasses.replace(self, images=min(self.images, 64), repair=min(self.repair, 64))

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the factorized model."""
        from edgepress.factorize.factorize import factorize

        assert isinstance(artifact, Model)
        images = ctx.data.calibration(self.images, ctx.seed) if self.images else None
        repair = ctx.data.calibration(self.repair, ctx.seed) if self.repair else None
        budget = parse(Budget, self.budget, "factorize: budget") if self.budget else None
        result, report = factorize(artifact, self.config, budget, images, repair, ctx.cache)
        ctx.notes.update(dump(report))
        for line in report.table():
            ctx.progress.say(f"  {line}")
        costs = "; ".join(f"{k} {report.before[k]:.5g} -> {report.after[k]:.5g}" for k in report.after)
        ctx.progress.say(f"{len(report.changes)} layers factorized, {len(report.whole)} whole; {costs}".rstrip("; "))
        return result
