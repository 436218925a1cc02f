"""`resnet20-w2a8-qat` and `tiny-91`, `resnet8-w4a8-qat` and `tiny-88`: weights of few bits, activations of 8."""

from benchmarks.base import Options
from benchmarks.rounding import measure as run
from edgepress.measure.rows import Row


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    return run(options, ("resnet20-w2a8-qat", "resnet8-w4a8-qat"))
