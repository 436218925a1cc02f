"""Remakes `results/distill.csv`: `make bench-distill`, or `python -m benchmarks.distill --only distill-cache`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.base import main

FIGURES = (
    *("distill-teachers", "distill-pairs", "distill-founding", "distill-founding-files"),
    *("distill-methods", "distill-torchdistill", "distill-cache"),
)

if __name__ == "__main__":
    raise SystemExit(main("distill", FIGURES))
