"""Remakes `results/structure.csv`: `make bench-structure`, or `python -m benchmarks.structure --only prune-public`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a file

from benchmarks.base import main

FIGURES = (
    "prune-latency-target",
    "prune-public",
    "prune-recover",
    "factorize-public",
    "structure-matrix",
    "vgg16-pruned",
    "alexnet-lowrank",
    "vgg11-chain",
    "mobilenet_v2-chain",
    "search",
)

if __name__ == "__main__":
    raise SystemExit(main("structure", FIGURES))
