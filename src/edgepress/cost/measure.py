"""What a network takes, measured on the network itself or on the file exported from it."""

from torch import nn

from edgepress.core.artifact import Signature
from edgepress.cost.budget import Budget
from edgepress.cost.clock import export_file, time_file
from edgepress.models.count import count_macs, count_params


def measured(module: nn.Module, signature: Signature, kind: str, budget: Budget) -> float:
    """Return what `module` takes of the limit `kind` of `budget`."""
    if kind == "params":
        return float(count_params(module))
    if kind == "macs":
        return float(count_macs(module, signature))
    data = export_file(module, signature)
    if kind == "bytes":
        return float(len(data))
    return time_file(data, signature, budget.runtime, budget.threads, budget.batch)
