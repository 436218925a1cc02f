"""Remakes `results/foundation.csv`: `make bench-foundation`, or `python -m benchmarks.foundation --only predictor`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.base import main

FIGURES = ("resnet8", "resnet20", "train-speed", "predictor", "startup", "kill-resume")
"""In this order: the first two leave the bundles that `predictor` and `startup` would rather use."""

if __name__ == "__main__":
    raise SystemExit(main("foundation", FIGURES))
