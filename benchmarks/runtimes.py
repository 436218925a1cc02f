"""Remakes `results/runtimes.csv`: `make bench-runtimes`, or `python -m benchmarks.runtimes --only bench-overhead`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.base import main

FIGURES = ("matrix", "verdict", "repeatability", "bench-overhead", "report")

if __name__ == "__main__":
    raise SystemExit(main("runtimes", FIGURES))
