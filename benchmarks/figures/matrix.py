"""`matrix`: eight networks at 224 and at 32 pixels, on every engine and precision.

Weights are random where there are none to be had: time, size and parity do not depend on what a network was taught. A
cell that cannot be filled has its reason in the store of the matrix.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.base import Options
from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec
from edgepress.measure import matrix, prepare
from edgepress.measure.base import Quiet
from edgepress.measure.cell import EAGER, Cell
from edgepress.measure.matrix import Judge, Result, Settings, speedup
from edgepress.measure.matrix_rows import rows
from edgepress.measure.rows import Row
from edgepress.measure.verdict import Budget, judge

NETWORKS = {
    "resnet50": "torchvision:resnet50",
    "resnet18": "torchvision:resnet18",
    "mobilenet_v2": "torchvision:mobilenet_v2",
    "mobilenet_v3_small": "torchvision:mobilenet_v3_small",
    "efficientnet_b0": "torchvision:efficientnet_b0",
    "vgg11": "torchvision:vgg11",
    "alexnet": "torchvision:alexnet",
    "nasnetmobile": "timm:nasnetalarge",
}
"""The networks of the issue; NASNet-Mobile is timm's NASNet with the mobile widths."""

ARGUMENTS = {"nasnetmobile": {"stem_size": 32, "channel_multiplier": 2, "num_features": 1056}}
SIZES = (224, 32)
IMAGES = 256


def measure(options: Options) -> list[Row]:
    """Return the rows of all matrices, and what the file that is to be shipped gains on each."""
    found: list[Row] = []
    for name, size in chosen(options):
        results, _ = one(options, name, size)
        found += [replace(row, command=options.command) for row in rows(results, "top1", options.command)]
        filled = [result for result in results if not result.error]
        about = {"n": len(results), "threads": 1, "batch": 1}
        found.append(options.row(f"{name}-{size}", "filled_cells", len(filled), "cells", "higher", **about))
        found.append(options.row(f"{name}-{size}", "reasons", len(results) - len(filled), "cells", "", **about))
        found += gains(options, f"{name}-{size}", results)
    return found


def chosen(options: Options) -> Iterator[tuple[str, int]]:
    """Yield the networks and sizes to measure; a trial takes one."""
    if options.quick:
        yield "mobilenet_v3_small", 32
        return
    for size in SIZES:
        for name in NETWORKS:
            if size == 224 or name not in ("alexnet", "nasnetmobile"):  # these two divide the image by more than 32
                yield name, size


def one(options: Options, name: str, size: int, again: str = "") -> tuple[list[Result], Path]:
    """Return the matrix of a network, and its store; `again` names a second one of the same files."""
    from edgepress.export.formats import formats
    from edgepress.models.build import new_model
    from edgepress.models.structure import save_model

    store = options.work / "matrix" / f"{name}-{size}"
    model, images = store / "model", store / "images.npy"
    spec = InputSpec(size, size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    signature = Signature("classification", spec, tuple(f"class{number}" for number in range(10)))
    if not (model / "structure.json").exists():
        save_model(new_model(NETWORKS[name], signature, dict(ARGUMENTS.get(name, {})), seed=0), model)
    if not images.exists():
        np.save(images, pictures(size))
    wanted = prepare.Wanted()
    names = sorted(formats, key=lambda format: (not format.startswith("pt2"), not format.startswith("onnx"), format))
    with prepare.Workshop(store) as shop:
        networks = prepare.networks_of(name, model, "fp32", images, names, wanted, shop)
        cells = prepare.from_model(name, networks, images, names, wanted, shop, Quiet())
        outputs = prepare.references(name, networks, images, shop, Quiet())
        layers = {name: prepare.layer_names(name, model, shop)}
    seen = np.load(images)
    targets = np.zeros(len(seen), np.int64)
    known = {network: np.load(path) for network, path in outputs.items()}
    measured(cells, Judge(seen, targets, "classification", 10, known, layers), options, store / f"cells{again}")
    return matrix.results(cells, store / f"cells{again}"), store


def measured(cells: list[Cell], by: Judge, options: Options, store: Path) -> None:
    """Measure the cells, as far as that was not done before."""
    settings = Settings(turns=2, calls=30, energy_seconds=0.1) if options.quick else Settings()
    matrix.run(cells, by, settings, store, Quiet())


def gains(options: Options, artifact: str, results: list[Result]) -> list[Row]:
    """Return how much faster the chosen file is than FP32 in PyTorch, as it is and exported, and in ONNX Runtime."""
    chosen = judge(results, Budget(drop=None)).chosen
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


def pictures(size: int) -> np.ndarray:
    """Return the images that parity is judged on: CIFAR-10's, enlarged where needed."""
    from PIL import Image

    from edgepress.data.base import datasets

    images, _ = datasets.get("cifar10")().load().val.read(np.arange(IMAGES, dtype=np.int64))
    if size == images.shape[1]:
        return images
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in images])
