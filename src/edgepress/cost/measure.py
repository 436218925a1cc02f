"""What a network takes, measured on the network itself or on the file exported from it."""

from dataclasses import dataclass

from torch import nn

from edgepress.core.artifact import Signature
from edgepress.cost.budget import Budget
from edgepress.cost.clock import export_file, time_file, time_files
from edgepress.models.count import count_macs, count_params


@dataclass(frozen=True)
class Yardstick:
    """The exported file of a network before it is edited, and the milliseconds it took.

    The speed of a machine changes by a tenth from one minute to the next, in which a search makes and times a dozen
    networks. What is timed in turns with this file is told at the speed that the machine had when it was timed first.
    """

    data: bytes
    ms: float

    @classmethod
    def of(cls, module: nn.Module, signature: Signature, budget: Budget) -> "Yardstick":
        """Return that of `module`, timed now."""
        data = export_file(module, signature)
        return cls(data, time_file(data, signature, budget.runtime, budget.threads, budget.batch))


def measured(
    module: nn.Module, signature: Signature, kind: str, budget: Budget, beside: Yardstick | None = None
) -> float:
    """Return what `module` takes of the limit `kind` of `budget`; a time is measured `beside` another file if given."""
    if kind == "params":
        return float(count_params(module))
    if kind == "macs":
        return float(count_macs(module, signature))
    data = export_file(module, signature)
    if kind == "bytes":
        return float(len(data))
    how = (signature, budget.runtime, budget.threads, budget.batch)
    if beside is None:
        return time_file(data, *how)
    own, now = time_files([data, beside.data], *how)
    return own * beside.ms / now
