"""Pressure on whole channels, for a training before a cut."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.train.objectives.base import Term, objectives

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.core.artifact import Signature
    from edgepress.prune.graph import Site
    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("group_lasso")
@dataclass(frozen=True)
class GroupLasso(Term):
    """The sum over all that can be pruned of the norm of the weights that would go with it: see `prune.lasso`.

    Yuan and Lin, 2006; Wen et al., "Learning Structured Sparsity in Deep Neural Networks", 2016. A training with it
    drives whole channels and heads towards zero, so that `prune` (by `group_norm`, say) takes little from the network.
    """

    usual: ClassVar[float] = 1e-4

    def bound(self, module: "nn.Module", signature: "Signature", processes: int) -> Term:
        """Return this loss for the network that is trained. Raises `EdgepressError` where nothing can be pruned."""
        from edgepress.prune.graph import find_sites

        return _Bound(module, find_sites(module, signature).sites, processes)

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        raise AssertionError("a training binds its losses to the network first")


@dataclass(frozen=True, eq=False)
class _Bound(Term):
    """The loss of one network. Each of several processes gives its share of the gradient: they are added up."""

    module: "nn.Module"
    sites: "tuple[Site, ...]"
    processes: int

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        from edgepress.prune.lasso import group_lasso

        total = group_lasso(self.module, self.sites)
        share = total / self.processes
        return share + (total - share).detach()
