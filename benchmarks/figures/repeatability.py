"""`repeatability`: the ratios between cells from two matrices of the same files, for cells above 0.3 ms."""

from itertools import combinations

from benchmarks.base import Options
from benchmarks.figures.matrix import one
from edgepress.measure.rows import Row

LEAST = 0.3
"""Milliseconds; below, the clock and the scheduler are a part of what is measured."""


def measure(options: Options) -> list[Row]:
    """Return the widest and the median disagreement of a ratio, in percent."""
    name, size = ("mobilenet_v3_small", 32) if options.quick else ("mobilenet_v2", 224)
    runs = [one(options, name, size, again=again)[0] for again in ("-first", "-second")]
    times = [{result.cell.name: result.ms for result in run if result.ms and result.ms > LEAST} for run in runs]
    shared = sorted(set(times[0]) & set(times[1]))
    off = sorted(
        abs((times[1][a] / times[1][b]) / (times[0][a] / times[0][b]) - 1) * 100 for a, b in combinations(shared, 2)
    )
    about = {"n": len(off), "threads": 1, "batch": 1}
    return [
        options.row("repeatability", "largest_difference", off[-1], "%", "lower", **about),
        options.row("repeatability", "median_difference", off[len(off) // 2], "%", "lower", **about),
    ]
