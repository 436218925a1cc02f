"""`verdict`: how far the file that is chosen is from the fastest that keeps the budget, both measured again.

The matrices are those of the figure `matrix`, made first where they are not there.
"""

import numpy as np

from benchmarks.base import Options
from benchmarks.figures.matrix import BUDGET, chosen, one, timed
from benchmarks.job import Lines
from edgepress.measure import matrix
from edgepress.measure.cell import EAGER
from edgepress.measure.matrix import SEEN, Judge
from edgepress.measure.rows import Row
from edgepress.measure.verdict import float_score, judge

PARTS = "networks"
"""What `--parts` chooses among."""

RIVALS = 4
"""So many of the fastest files are measured again beside the chosen one."""


def measure(options: Options) -> list[Row]:
    """Return a row per network, and the worst where all were asked for."""
    found: list[Row] = []
    for name, size in chosen(options):
        results, store = one(options, name, size)
        said = judge(results, BUDGET)
        if said.chosen is None:
            continue
        best = float_score(results)
        files = [result for result in results if result.ms is not None and result.cell.runtime != EAGER]
        good = [result for result in files if not BUDGET.broken(result, best)]
        rivals = sorted(good, key=lambda result: result.ms or 0.0)[:RIVALS]
        pair = list(dict.fromkeys(result.cell for result in (said.chosen, *rivals)))
        images = np.load(store / SEEN)
        by = Judge(images, np.zeros(len(images), np.int64), "classification", 10)
        matrix.run(pair, by, timed(options), store / "verdict", Lines())
        anew = matrix.results(pair, store / "verdict")
        fastest = min(result.ms for result in anew if result.ms is not None)
        about = {"n": len(pair), "threads": 1, "batch": 1}
        about |= {"runtime": said.chosen.cell.runtime, "precision": said.chosen.cell.precision}
        found.append(options.row(f"{name}-{size}", "verdict", (anew[0].ms or 0.0) / fastest, "ratio", "lower", **about))
    if options.parts or not found:
        return found
    return [*found, options.row("verdict", "worst", max(row.value for row in found), "ratio", "lower", n=len(found))]
