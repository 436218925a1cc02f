"""The final of a matrix: the fastest files that keep the budget, timed once more, among themselves.

In the matrix every cell runs behind a dozen others that empty the caches, and cells a few percent apart change places
from one run to the next. Which file to ship is decided by calls that alternate between the few that may win.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgepress.core.stage import Progress
from edgepress.measure import matrix
from edgepress.measure.cell import Cell
from edgepress.measure.matrix import Settings, time_in_turns
from edgepress.measure.verdict import Budget, finalists

LONGER = 2
"""So many times the turns and calls of the matrix: it is about differences of a few percent."""


def run_final(cells: Sequence[Cell], budget: Budget, settings: Settings, store: Path, progress: Progress) -> None:
    """Time the files among `cells` that may be shipped under `budget`, as far as `store` does not hold that already.

    Another budget may let other files in: then all are timed anew, since times of two occasions tell nothing.
    """
    longer = replace(settings, turns=LONGER * settings.turns, calls=LONGER * settings.calls)
    for about in dict.fromkeys((cell.threads, cell.batch) for cell in cells):
        block = [cell for cell in cells if (cell.threads, cell.batch) == about]
        few = [result.cell for result in finalists(matrix.results(block, store), budget)]
        if len(few) > 1:
            time_in_turns(few, longer, store, progress, final=True)
