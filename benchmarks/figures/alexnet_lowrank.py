"""`alexnet-lowrank`: AlexNet by low-rank factors, in FP32: classifier and convolutions each an eighth or less."""

from benchmarks.base import Options
from benchmarks.chains import chain_rows
from edgepress.measure.rows import Row

QUICK = (
    "whole.arguments={width: 8, hidden: 128}",
    "classifier.budget={params: 55000}",
    "factors.budget={params: 45000}",
)


def measure(options: Options) -> list[Row]:
    """Return the rows of the chain; see `benchmarks.chains`."""
    return chain_rows(options, "alexnet-lowrank", QUICK)
