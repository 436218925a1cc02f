"""`resnet20-w2a2-qat`: weights and activations of 2 bits."""

from benchmarks.base import Options
from benchmarks.rounding import measure as run
from edgepress.measure.rows import Row


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    return run(options, ("resnet20-w2a2-qat",))
