"""`matrix`: eight networks at 224 and at 32 pixels, on every engine and precision.

The networks are those of `taught.py`: they know CIFAR-10 well enough for their answers to differ. First everything is
made and checked; what is timed comes last and together, so that the machine need be quiet for that part only. A cell
that cannot be filled has its reason in the store of the matrix.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.base import Options
from benchmarks.job import Lines
from benchmarks.taught import NETWORKS, Taught
from edgepress.core.files import write_array
from edgepress.measure import matrix, prepare
from edgepress.measure.base import Quiet
from edgepress.measure.cell import EAGER
from edgepress.measure.final import run_final
from edgepress.measure.matrix import SEEN, Judge, Result, Settings, speedup
from edgepress.measure.matrix_rows import rows
from edgepress.measure.rows import Row
from edgepress.measure.verdict import Budget, judge

PARTS = "networks"
"""What `--parts` chooses among."""

SIZES = (224, 32)
CALIBRATION = 128
FULL = Settings()
BUDGET = Budget(drop=1.0)
"""What a file may lose. Of 256 images one is 0.4 points."""


def measure(options: Options) -> list[Row]:
    """Return the rows of all matrices, and what the file that is to be shipped gains on each."""
    for name, size in chosen(options):
        one(options, name, size, Settings(turns=0))
    found: list[Row] = []
    for name, size in chosen(options):
        results, _ = one(options, name, size)
        for row in rows(results, "top1", options.command, "val"):
            found.append(replace(row, artifact=f"{name}-{size}{row.artifact.removeprefix(name)}"))
        filled = [result for result in results if not result.error]
        about = {"n": len(results), "threads": 1, "batch": 1}
        found.append(options.row(f"{name}-{size}", "filled_cells", len(filled), "cells", "higher", **about))
        found.append(options.row(f"{name}-{size}", "reasons", len(results) - len(filled), "cells", "", **about))
        found += gains(options, f"{name}-{size}", results)
    return found


def chosen(options: Options) -> list[tuple[str, int]]:
    """Return the networks and sizes to measure, all or those of `--parts`; a trial takes one."""
    if options.quick:
        return [("mobilenet_v3_small", 32)]
    known = {
        f"{name}-{size}": (name, size) for size in SIZES for name, about in NETWORKS.items() if size >= about.smallest
    }
    return [known[part] for part in options.wanted(list(known))]


def one(options: Options, name: str, size: int, settings: Settings = FULL) -> tuple[list[Result], Path]:
    """Return the matrix of a network, and its store."""
    from edgepress.export.formats import formats

    store = options.work / "matrix" / f"{name}-{size}"
    taught, images = Taught(name, size, options), store / "images.npy"
    if not images.exists():
        write_array(images, taught.data.calibration(CALIBRATION, 0))
    wanted = prepare.Wanted()
    names = sorted(formats, key=lambda format: (not format.startswith("pt2"), not format.startswith("onnx"), format))
    seen, targets = taught.data.val.read(np.arange(len(taught.data.val)))
    write_array(store / SEEN, seen)
    with prepare.Workshop(store) as shop:
        networks = prepare.networks_of(name, taught.folder, "fp32", images, names, wanted, shop)
        cells = prepare.from_model(name, networks, images, names, wanted, shop, Quiet())
        outputs = prepare.references(name, networks, store / SEEN, shop, Quiet())
        layers = {name: prepare.layer_names(name, taught.folder, shop)}
    known = {network: np.load(path) for network, path in outputs.items()}
    to, settings = store / "cells", timed(options, settings)
    matrix.run(cells, Judge(seen, targets, "classification", 10, known, layers), settings, to, Lines())
    if settings.turns:
        run_final(cells, BUDGET, settings, to, Lines())
    return matrix.results(cells, to), store


def timed(options: Options, settings: Settings = FULL) -> Settings:
    """Return `settings`, for a trial with few calls."""
    trial = Settings(turns=min(2, settings.turns), calls=30, energy_seconds=0.1)
    return trial if options.quick else settings


def gains(options: Options, artifact: str, results: list[Result]) -> list[Row]:
    """Return how much faster the chosen file is than FP32 in PyTorch, as it is and exported, and in ONNX Runtime."""
    chosen = judge(results, BUDGET).chosen
    if chosen is None:
        return []
    about = {"n": chosen.timing.n if chosen.timing else 0, "threads": 1, "batch": 1}
    about |= {"runtime": chosen.cell.runtime, "precision": chosen.cell.precision}
    found: list[Row] = []
    for before in results:
        if before.cell.precision == "fp32" and before.cell.runtime in (EAGER, "pt2", "onnxruntime"):
            factor = speedup(before, chosen)
            if factor:
                metric = f"speedup_over_{before.cell.runtime}"
                found.append(options.row(artifact, metric, factor, "ratio", "higher", **about))
    return found
