"""`vgg11-chain`: VGG-11 pruned in steps, factorized, distilled and quantized, against itself in FP32 and in PyTorch."""

from benchmarks.base import Options
from benchmarks.chains import chain_rows
from edgepress.measure.rows import Row

QUICK = ("whole.arguments={width: 8}", "thinner.budget={macs: 1400000}", "factors.budget={macs: 1200000}")


def measure(options: Options) -> list[Row]:
    """Return the rows of the chain; see `benchmarks.chains`."""
    return chain_rows(options, "vgg11-chain", QUICK)
