"""Correlation congruence."""

from dataclasses import dataclass
from math import exp, factorial
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs, positive

if TYPE_CHECKING:
    from torch import Tensor


@objectives.register("cc")
@dataclass(frozen=True)
class CC(FeatureTerm):
    """`|K_t - K_s|_F^2 / N^2`, where K holds a Gaussian kernel `exp(-gamma |x - y|^2)` between features of norm 1.

    Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019; as there, the kernel is its Taylor
    series `sum_p exp(-2 gamma) (2 gamma)^p / p! (x . y)^p` up to `order`. Features `(N, ...)` are flattened and may
    differ in size; nothing is trained between.
    """

    gamma: float = 0.4
    order: int = 2

    place: ClassVar[Place] = "embedding"
    joins = "anything"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("gamma", self.gamma)
        if not 1 <= self.order <= 20:
            raise ValueError(f"order must be in 1..20, got {self.order}")

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features."""
        each = [(self._kernel(b) - self._kernel(a)).square().mean() for a, b in zip(ours, theirs, strict=True)]
        return over_pairs(each)

    def _kernel(self, x: "Tensor") -> "Tensor":
        x = x.flatten(1)
        x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
        products, double = x @ x.T, 2 * self.gamma
        terms = [products**p * (exp(-double) * double**p / factorial(p)) for p in range(self.order + 1)]
        return sum(terms[1:], terms[0])
