"""Bytes and times of the founding pairs' files, from networks of the whole size: they need no GPU.

Neither hangs on what a network has learned, so every stage of the recipes runs once, on 512 images. What the students
learn is for `distill-founding`.
"""

from benchmarks.base import Options
from benchmarks.chains import SMALL, chain_rows
from benchmarks.figures.distill_founding import PAIRS, QUICK
from edgepress.measure.rows import Row

PARTS = "pairs"
"""What `--parts` chooses among."""

SCORES = ("top1", "drop")


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return the rows of the files."""
    rows: list[Row] = []
    for name in options.wanted(list(PAIRS)):
        pair = f"{PAIRS[name][0]}-untaught"
        found = chain_rows(options, name, QUICK, called=pair, untaught=True)
        files = {f"{pair}-{which}" for which in ("whole", "whole-fp32", "student", SMALL)}
        rows += [row for row in found if row.artifact in files and row.metric not in SCORES]
    return rows
