"""`mobilenet_v2-chain`: MobileNetV2 pruned to a time, trained to 4-bit weights, against itself in FP32."""

from benchmarks.base import Options
from benchmarks.chains import chain_rows
from edgepress.measure.rows import Row

QUICK = ("whole.arguments={width: 0.25}", "thinner.budget={params: 180000}")


def measure(options: Options) -> list[Row]:
    """Return the rows of the chain; see `benchmarks.chains`."""
    return chain_rows(options, "mobilenet_v2-chain", QUICK)
