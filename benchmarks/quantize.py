"""Remakes `results/quantize.csv`: `make bench-quantize`, or `python -m benchmarks.quantize --only ptq-peers`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.base import main

FIGURES = ("ptq", "ptq-peers", "ptq-mobile", "resnet18", "qat-weights", "qat-w4a4", "qat-w2a2", "packed")

if __name__ == "__main__":
    raise SystemExit(main("quantize", FIGURES))
