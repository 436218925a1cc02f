"""What a network takes, measured on the network itself or on the file exported from it."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from edgepress.core.artifact import Signature
from edgepress.cost.budget import Budget
from edgepress.cost.clock import export_file, time_files
from edgepress.models.count import count_macs, count_params

MOMENTS, SECONDS, PAUSE = 5, 0.4, 0.4
"""A file is timed at so many moments, so many seconds each, so many seconds apart: the time of one moment was 10 % too
long, on a machine that other work shares."""


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
        return cls(data, statistics.median(own for [own] in moments([data], signature, budget)))

    def ratio(self, data: bytes, signature: Signature, budget: Budget) -> float:
        """Return the time of a call of `data` over that of this file, timed in turns."""
        return statistics.median(own / whole for own, whole in moments([data, self.data], signature, budget))


def moments(files: Sequence[bytes], signature: Signature, budget: Budget) -> list[list[float]]:
    """Return the milliseconds of a call of each of `files`, in turns, as `budget` says, at several moments."""
    found: list[list[float]] = []
    for number in range(MOMENTS):
        time.sleep(PAUSE if number else 0)
        found.append(time_files(files, signature, budget.runtime, budget.threads, budget.batch, SECONDS))
    return found


def measured(
    module: nn.Module, signature: Signature, kind: str, budget: Budget, beside: Yardstick | None = None
) -> float:
    """Return what `module` takes of the limit `kind` of `budget`; a time is measured `beside` another file if given."""
    if kind == "params":
        return float(count_params(module))
    if kind == "macs":
        return float(count_macs(module, signature))
    if kind == "bytes":
        return float(len(export_file(module, signature)))
    if beside is None:
        return Yardstick.of(module, signature, budget).ms
    return beside.ratio(export_file(module, signature), signature, budget) * beside.ms
