"""`repeatability`: the ratios between cells from two matrices of the same files, for cells above 0.3 ms.

The first is that of the figure `matrix`, made first where it is not there; in the second the files are only timed.
`--parts` chooses networks.
"""

from dataclasses import replace
from itertools import combinations

from benchmarks.base import Options
from benchmarks.figures.matrix import chosen, one, timed
from benchmarks.job import Lines
from edgepress.measure import matrix
from edgepress.measure.matrix import Result
from edgepress.measure.rows import Row

PARTS = "networks"
"""What `--parts` chooses among."""

LEAST = 0.3
"""Milliseconds; below, the clock and the scheduler are a part of what is measured."""


def measure(options: Options) -> list[Row]:
    """Return the widest and the median disagreement of a ratio, in percent, by network and over all of them."""
    rows: list[Row] = []
    everything: list[float] = []
    for name, size in chosen(options):
        first, store = one(options, name, size)
        cells = [result.cell for result in first if not result.error]
        settings = replace(timed(options), profile=False, energy_seconds=0.1)
        matrix.run(cells, None, settings, store / "again", Lines())
        off = disagreements(first, matrix.results(cells, store / "again"))
        if off:
            rows += _rows(options, f"repeatability-{name}-{size}", off)
            everything += off
    return rows + _rows(options, "repeatability", sorted(everything))


def disagreements(first: list[Result], second: list[Result]) -> list[float]:
    """Return by how many percent each ratio of two cells differs between the two matrices, sorted."""
    times = [
        {result.cell.name: result.ms for result in run if result.ms and result.ms > LEAST} for run in (first, second)
    ]
    shared = sorted(set(times[0]) & set(times[1]))
    return sorted(
        abs((times[1][a] / times[1][b]) / (times[0][a] / times[0][b]) - 1) * 100 for a, b in combinations(shared, 2)
    )


def _rows(options: Options, artifact: str, off: list[float]) -> list[Row]:
    about = {"n": len(off), "threads": 1, "batch": 1}
    within = 100 * sum(value <= 5 for value in off) / max(len(off), 1)
    return [
        options.row(artifact, "largest_difference", off[-1] if off else 0.0, "%", "lower", **about),
        options.row(artifact, "median_difference", off[len(off) // 2] if off else 0.0, "%", "lower", **about),
        options.row(artifact, "within_5_percent", within, "%", "higher", **about),
    ]
