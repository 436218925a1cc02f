"""`prune-latency-target`: asked for so many times the speed, what does the exported file take? Six networks, three
speeds each.

The networks have random weights: widths decide a time, not values. The time asked for is that of the whole file over
the speed asked for, and `error` is how far a new measurement of the exported file is from it; it holds what the search
left unused as well as what the clock got wrong. Both files are measured anew, in turns, so that a machine that became
slower or faster meanwhile is no error of the search. `error_in_ms` is against the milliseconds that the search found at
its own start: where the two differ, the machine was not quiet.
"""

import statistics

from benchmarks.base import Options, one_core
from edgepress.core.artifact import Model, Signature
from edgepress.core.errors import EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.measure.rows import Row

PARTS = "networks"
"""What `--parts` chooses among."""

FACTORS = (1.5, 2.0, 4.0)
BOUND = 8.0
"""An error of at most so many percent counts as a time that was met."""
NETWORKS = (
    ("cifar_resnet56", 32),
    ("torchvision:vgg11", 32),
    ("torchvision:resnet18", 64),
    ("torchvision:mobilenet_v2", 96),
    ("timm:regnetx_002", 96),
    ("torchvision:densenet121", 64),
)
"""Networks and the pixels of their images."""


def measure(options: Options) -> list[Row]:
    """Return `error` and `latency` of every network and speed, and how many were met: of each network, and of all."""
    from edgepress.models.build import new_model

    rows: list[Row] = []
    about = {"runtime": "onnxruntime", "threads": 1, "batch": 1}
    factors = FACTORS[:1] if options.quick else FACTORS
    networks = {name.partition(":")[2] or name: (name, size) for name, size in NETWORKS}
    chosen = list(networks)[:1] if options.quick else options.wanted(list(networks))
    total = 0
    for short in chosen:
        name, size = networks[short]
        signature = Signature("classification", InputSpec(size, size), tuple("abcdefghij"))
        model, met = new_model(name, signature, {}, seed=0), 0
        for factor in factors:
            with one_core():
                found = _one(options, model, f"{short}-{factor:g}x", factor)
            print(*(f"{row.artifact} {row.metric} {row.value:.4g}" for row in found[:3]), flush=True)
            met += any(row.metric == "error" and row.value <= BOUND for row in found)
            rows += found
        rows.append(options.row(f"latency-target-{short}", "met", met, "speeds", "higher", n=len(factors), **about))
        total += met
    if len(chosen) == len(networks):
        asked = len(chosen) * len(factors)
        rows.append(options.row("latency-target", "met", total, "speeds", "higher", n=asked, **about))
    return rows


def _one(options: Options, model: Model, name: str, factor: float) -> list[Row]:
    from edgepress.cost.budget import Budget
    from edgepress.cost.clock import export_file
    from edgepress.cost.measure import moments
    from edgepress.prune.config import PruneConfig
    from edgepress.prune.prune import prune

    budget = Budget(speedup=factor)
    try:
        result, report = prune(model, budget, PruneConfig(score="l1"), cache=options.work / "prune-cache")
    except EdgepressError as error:
        print(f"  {name}: {error}")
        return []
    files = [export_file(module, model.signature) for module in (model.module, result.module)]
    times = moments(files, model.signature, budget)
    ratio = statistics.median(new / old for old, new in times)
    new, asked = statistics.median(new for _, new in times), report.asked["latency_ms"]
    about = {"runtime": "onnxruntime", "precision": "fp32", "threads": 1, "batch": 1}
    artifact = f"latency-target-{name}"
    return [
        options.row(artifact, "error", 100 * abs(ratio * factor - 1), "%", "lower", **about),
        options.row(artifact, "error_in_ms", 100 * abs(new / asked - 1), "%", "lower", **about),
        options.row(artifact, "latency", new, "ms", "lower", **about),
        options.row(artifact, "latency_asked", asked, "ms", "", **about),
        options.row(artifact, "latency_promised", report.promised["latency_ms"], "ms", "", **about),
        options.row(artifact, "attempts", report.attempts, "exports", "lower", **about),
    ]
