"""`vgg16-pruned`: VGG-16 in a fifth of its own milliseconds, in FP32: what structure alone takes away."""

from benchmarks.base import Options
from benchmarks.chains import chain_rows, file_ms
from edgepress.measure.rows import Row

FACTOR = 5.3
"""A little more than the five times that are claimed: what is trained for an hour should not miss them by the clock."""
QUICK = ("whole.model=vgg8", "whole.arguments={width: 8}", "thinner.budget={params: 60000}")


def measure(options: Options) -> list[Row]:
    """Return the rows of the chain; see `benchmarks.chains`."""
    budget = f"{{latency_ms: {file_ms(options, 'vgg16') / FACTOR:.4f}}}"
    return chain_rows(options, "vgg16-pruned", QUICK, [f"thinner.budget={budget}"])
