"""What pruning is told. Light: the stage and the recipe check read it without torch."""

from dataclasses import dataclass
from typing import Literal

from edgepress.core.config import STRICT

Scope = Literal["global", "layer"]
Pattern = Literal["single", "2:4", "block"]


@dataclass(frozen=True)
class PruneConfig:
    """How a network is made narrower and shallower.

    `score` names what says which channel matters least (`prune.scores`). `scope`: "global" weighs all layers against
    each other, by loss for each unit of budget saved; "layer" takes the same share from every layer, and no blocks.
    `protect` holds globs of layer paths whose outputs stay as they are, `minimum` the fewest channels a layer keeps,
    `multiple` what widths are rounded to (0: measured where the budget is a time, else 1). `blocks` lets whole residual
    blocks go, `heads` attention heads. `fraction` goes only a part of the way to the budget, for pruning in steps.
    """

    __pydantic_config__ = STRICT

    score: str = "taylor"
    scope: Scope = "global"
    protect: tuple[str, ...] = ()
    minimum: int = 4
    multiple: int = 0
    blocks: bool = True
    heads: bool = True
    fraction: float = 1.0

    def problems(self) -> list[str]:
        """Return what is wrong with the fields beyond their types."""
        wrong: list[str] = []
        if self.minimum < 1:
            wrong.append(f"minimum: a layer keeps at least 1 channel, got {self.minimum}")
        if self.multiple < 0:
            wrong.append(f"multiple: 0 (chosen here) or the number that widths are rounded to, got {self.multiple}")
        if not 0 < self.fraction <= 1:
            wrong.append(f"fraction must be in (0, 1], got {self.fraction}")
        return wrong


@dataclass(frozen=True)
class SparsifyConfig:
    """Which weights become zero; see the stage `sparsify`."""

    __pydantic_config__ = STRICT

    sparsity: float = 0.5
    pattern: Pattern = "single"
    block: tuple[int, int] = (16, 1)
    protect: tuple[str, ...] = ()
    step: int = 1
    steps: int = 1

    def problems(self) -> list[str]:
        """Return what is wrong with the fields beyond their types."""
        wrong: list[str] = []
        if not 0 < self.sparsity < 1:
            wrong.append(f"sparsity must be in (0, 1), got {self.sparsity}")
        if self.pattern == "2:4" and self.sparsity != 0.5:
            wrong.append(f"sparsity: of the pattern 2:4 a half is zero, got {self.sparsity}")
        if min(self.block) < 1:
            wrong.append(f"block: outputs and inputs of a block are at least 1, got {self.block}")
        if not 1 <= self.step <= self.steps:
            wrong.append(f"step must be from 1 to steps ({self.steps}), got {self.step}")
        return wrong

    @property
    def share(self) -> float:
        """The share of zeros at this step: `s * (1 - (1 - step / steps)^3)`, Zhu and Gupta, "To prune, or not to
        prune", 2017."""
        return self.sparsity * (1 - (1 - self.step / self.steps) ** 3)
