"""Remakes `results/segmentation.csv`: `make bench-segmentation`, or `python -m benchmarks.segmentation --only fps`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.base import main

FIGURES = ("fps", "unet", "unet-small", "imbalance", "where", "accelerate")

if __name__ == "__main__":
    raise SystemExit(main("segmentation", FIGURES))
