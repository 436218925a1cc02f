"""`vgg16-pruned`: VGG-16 at more than five times its speed, in FP32: what structure alone takes away."""

from benchmarks.base import Options
from benchmarks.chains import chain_rows
from edgepress.measure.rows import Row

QUICK = ("whole.model=vgg8", "whole.arguments={width: 8}", "thinner.budget={params: 60000}")


def measure(options: Options) -> list[Row]:
    """Return the rows of the chain; see `benchmarks.chains`."""
    return chain_rows(options, "vgg16-pruned", QUICK)
