"""What factorizing is told. Light: the stage and the recipe check read it without torch."""

from dataclasses import dataclass, field
from typing import Literal

from edgepress.core.config import STRICT

RankRule = Literal["auto", "energy", "vbmf", "share", "budget"]
ConvMethod = Literal["auto", "tucker", "cp", "spatial", "none"]
LinearMethod = Literal["svd", "none"]


@dataclass(frozen=True)
class FactorizeConfig:
    """How layers are replaced by chains of thinner ones.

    Linear layers and 1x1 convolutions become two factors by a singular value decomposition. `conv` says what becomes of
    larger kernels: "tucker" (1x1, the kernel between fewer channels, 1x1; Kim et al. 2016), "cp" (1x1, depthwise, 1x1;
    Lebedev et al. 2015), "spatial" (k x 1, then 1 x k; Jaderberg et al. 2014), "none", or whichever of Tucker and
    spatial is better ("auto").

    `rank` is the rule: "energy" keeps that share of each weight's squared Frobenius norm, "vbmf" keeps what is no noise
    (Nakajima et al. 2013), "share" that share of the full rank, "budget" what a budget allows; "auto" is "budget" where
    there is one, else "energy". `ranks` sets ranks by glob, one number, or two (outputs and inputs) for Tucker.
    `layers` and `protect` hold globs: only those layers, and not those. Ranks are rounded up to a `multiple`
    (0: measured where the budget is a time, else 1). `fraction` goes only a part of the way to the budget.
    """

    __pydantic_config__ = STRICT

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

    def rule(self, has_budget: bool) -> str:
        """Return the rule that "auto" stands for."""
        return self.rank if self.rank != "auto" else "budget" if has_budget else "energy"

    def problems(self, has_budget: bool) -> list[str]:
        """Return what is wrong with the fields beyond their types."""
        wrong: list[str] = []
        if has_budget != (self.rule(has_budget) == "budget"):
            wrong.append(
                f"rank: {self.rank!r} and a budget exclude each other: leave one of them out"
                if has_budget
                else "rank: 'budget' needs a budget, for example {macs: 20000000}"
            )
        for name in ("energy", "share", "fraction"):
            if not 0 < getattr(self, name) <= 1:
                wrong.append(f"{name} must be in (0, 1], got {getattr(self, name)}")
        if self.fraction != 1 and not has_budget:
            wrong.append("fraction: it is a part of the way to a budget, and there is none")
        if self.multiple < 0:
            wrong.append(f"multiple: 0 (chosen here) or the number that ranks are rounded to, got {self.multiple}")
        for glob, given in self.ranks.items():
            if min((given,) if isinstance(given, int) else given) < 1:
                wrong.append(f"ranks: a rank is at least 1, got {given} for {glob!r}")
        if self.conv == "none" and self.linear == "none":
            wrong.append("conv and linear are both 'none': there is nothing to factorize")
        return wrong
