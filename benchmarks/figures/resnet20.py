"""`resnet20-kd-int8`: the public ResNet-20, taught on by the public ResNet-56, as an INT8 file."""

from benchmarks.accuracy import measure as run
from benchmarks.base import Options
from edgepress.measure.rows import Row


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    return run(options, {"resnet20-kd": (0,)})
