"""`resnet8-alone-fp32`, `resnet8-kd-fp32`, `resnet8-kd-int8`: the ResNet-8 of MLPerf Tiny, alone and taught."""

from benchmarks.accuracy import measure as run
from benchmarks.base import Options
from edgepress.measure.rows import Row


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    return run(options, {"resnet8-kd": options.seeds, "resnet8-alone": options.seeds})
