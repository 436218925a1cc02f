"""`prune-public`: the public CIFAR-10 ResNets pruned in one shot, without training, with every score.

Budgets are times (ONNX Runtime, batch 1, 1 thread) and MACs; batch norms are estimated anew on 1,024 training images.
The published weights were trained on the whole training split, so top-1 is counted on the test split; nothing is chosen
by it.
Speed-ups compare the exported files side by side: calls of both alternate in one run.
"""

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.base import Options, one_core
from edgepress.core.artifact import Model, Signature
from edgepress.core.errors import DataError, EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.data.base import Data, datasets
from edgepress.measure.rows import Row

DEPTHS, TIMES, MACS = (20, 56), (1.5, 2.0), (1.5, 2.0)
SPEC = InputSpec(32, 32, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def measure(options: Options) -> list[Row]:
    """Return top-1, MACs, parameters, promised and measured times of each pruned network, and the errors."""
    if "EDGEPRESS_DATA" not in os.environ:
        raise DataError("the public weights and CIFAR-10 lie under EDGEPRESS_DATA, which is not set")
    from edgepress.prune.scores.base import scores

    data = datasets.get("cifar10")().load()
    names = ["taylor", "l1"] if options.quick else list(scores)
    rows: list[Row] = []
    for depth in DEPTHS[:1] if options.quick else DEPTHS:
        model = public(depth, data)
        with one_core():
            rows += _whole(options, depth, model, data)
            for kind, factors in (("latency_ms", TIMES), ("macs", MACS)):
                for factor in factors[:1] if options.quick else factors:
                    for name in names:
                        rows += _pruned(options, depth, model, data, kind, factor, name)
    return rows


def public(depth: int, data: Data) -> Model:
    """Return the public ResNet of this depth."""
    from edgepress.models.build import new_model
    from edgepress.models.weights import load_weights

    model = new_model(f"cifar_resnet{depth}", Signature("classification", SPEC, data.labels), {}, 0)
    folder = Path(os.environ["EDGEPRESS_DATA"]) / "weights" / "resnet_cifar10"
    load_weights(model.module, next(folder.glob(f"resnet{depth}-*.th")))
    return model


def calibration(options: Options, data: Data) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
    """Return training images to look at with their targets, and images for the statistics of batch norms."""
    order = np.random.default_rng(0).permutation(len(data.train))
    look, repair = (64, 128) if options.quick else (512, 1024)
    images, targets = data.train.read(np.sort(order[:look]))
    return images, targets, data.train.read(np.sort(order[:repair]))[0]


def top1(options: Options, model: Model, data: Data) -> tuple[float, int]:
    """Return the percentage of test images that are right, and how many there are."""
    from edgepress.models.predictor import TorchPredictor

    count = 200 if options.quick else len(data.test)
    images, targets = data.test.read(np.arange(count))
    return 100 * float((TorchPredictor(model)(images).argmax(1) == targets).mean()), count


def _whole(options: Options, depth: int, model: Model, data: Data) -> list[Row]:
    value, count = top1(options, model, data)
    name = f"resnet{depth}-public"
    return [options.row(name, "top1", value, "%", "higher", n=count, split="test", runtime="torch", precision="fp32")]


def _pruned(options: Options, depth: int, model: Model, data: Data, kind: str, factor: float, score: str) -> list[Row]:
    from edgepress.cost.budget import Budget
    from edgepress.cost.clock import export_file, time_file, time_files
    from edgepress.models.count import count_macs
    from edgepress.prune.config import PruneConfig
    from edgepress.prune.prune import prune

    name = f"resnet{depth}-{factor:g}x-{'time' if kind == 'latency_ms' else 'macs'}-{score}"
    before = export_file(model.module, model.signature)
    macs = count_macs(model.module, model.signature)
    full = time_file(before, model.signature, "onnxruntime", 1, 1) if kind == "latency_ms" else macs
    budget = Budget(latency_ms=full / factor) if kind == "latency_ms" else Budget(macs=int(full / factor))
    begin = time.monotonic()
    images, targets, repair = calibration(options, data)
    try:
        result, report = prune(
            model, budget, PruneConfig(score=score), images, targets, repair, options.work / "prune-cache"
        )
    except EdgepressError as error:
        print(f"  {name}: {error}")
        return []
    seconds = time.monotonic() - begin
    value, count = top1(options, result, data)
    after = export_file(result.module, result.signature)
    old, new = time_files([before, after], model.signature, "onnxruntime", 1, 1)
    about = {"runtime": "onnxruntime", "precision": "fp32", "threads": 1, "batch": 1}
    rows = [
        options.row(name, "top1", value, "%", "higher", n=count, split="test", runtime="torch", precision="fp32"),
        options.row(name, "latency", new, "ms", "lower", **about),
        options.row(name, "speedup", old / new, "x", "higher", **about),
        options.row(name, "macs", count_macs(result.module, result.signature), "", "lower"),
        options.row(name, "bytes", len(after), "bytes", "lower", **about),
        options.row(name, "prune_seconds", seconds, "s", "lower"),
    ]
    if kind == "latency_ms":
        asked = full / factor
        rows += [
            options.row(name, "latency_asked", asked, "ms", "", **about),
            options.row(name, "latency_promised", report.promised[kind], "ms", "", **about),
            options.row(name, "latency_error", 100 * abs(new / asked - 1), "%", "lower", **about),
        ]
    return rows
