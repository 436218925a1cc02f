"""`factorize-public`: the public CIFAR-10 ResNets put into low-rank factors without training.

Budgets are MACs and parameters; `weights` takes the factors as they are, `images` fits the last one of each layer to
the outputs on 512 training images, as the stage does. Batch norms are estimated anew on 1,024 images in both. The
published weights were trained on the whole training split, so top-1 is counted on the test split; nothing is chosen by
it.
"""

import os
import time

from benchmarks.base import Options
from benchmarks.figures.prune_public import calibration, public, top1
from edgepress.core.artifact import Model
from edgepress.core.errors import DataError
from edgepress.data.base import Data, datasets
from edgepress.measure.rows import Row

DEPTHS, FACTORS, KINDS = (20, 56), (1.5, 2.0, 3.0), ("macs", "params")


def measure(options: Options) -> list[Row]:
    """Return top-1, MACs, parameters and seconds of each factorized network."""
    if "EDGEPRESS_DATA" not in os.environ:
        raise DataError("the public weights and CIFAR-10 lie under EDGEPRESS_DATA, which is not set")
    data = datasets.get("cifar10")().load()
    rows: list[Row] = []
    for depth in DEPTHS[:1] if options.quick else DEPTHS:
        model = public(depth, data)
        for kind in KINDS:
            for factor in FACTORS[:1] if options.quick else FACTORS:
                for way in ("weights", "images"):
                    rows += _factorized(options, f"resnet{depth}-{factor:g}x-{kind}-{way}", model, data, kind, factor)
    return rows


def _factorized(options: Options, name: str, model: Model, data: Data, kind: str, factor: float) -> list[Row]:
    from edgepress.cost.budget import Budget
    from edgepress.factorize.factorize import factorize
    from edgepress.models.count import count_macs, count_params

    full = count_macs(model.module, model.signature) if kind == "macs" else count_params(model.module)
    images, _, repair = calibration(options, data)
    begin = time.monotonic()
    budget = Budget(**{kind: int(full / factor)})
    result, _ = factorize(model, budget=budget, images=images if name.endswith("images") else None, repair=repair)
    seconds = time.monotonic() - begin
    value, count = top1(options, result, data)
    print(f"  {name}: {value:.2f} %", flush=True)
    name = f"factorized-{name}"
    return [
        options.row(name, "top1", value, "%", "higher", n=count, split="test", runtime="torch", precision="fp32"),
        options.row(name, "macs", count_macs(result.module, result.signature), "", "lower"),
        options.row(name, "params", count_params(result.module), "", "lower"),
        options.row(name, "factorize_seconds", seconds, "s", "lower"),
    ]
