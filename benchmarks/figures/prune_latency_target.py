"""`prune-latency-target`: asked for milliseconds, what does the exported file take? Six networks, three speeds each.

The networks have random weights: widths decide a time, not values. `error` compares a new measurement of the exported
file with the milliseconds asked for; it holds what the search left unused as well as what the clock got wrong.
`error_side_by_side` compares with the whole file measured in alternating calls, so that a machine that became slower
or faster meanwhile is no error; where the two differ, the machine was not quiet.
"""

from typing import Any

from benchmarks.base import Options
from benchmarks.figures.prune_public import alternate
from edgepress.core.artifact import Model, Signature
from edgepress.core.errors import EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.measure.rows import Row
from edgepress.measure.timing import pinned

FACTORS = (1.5, 2.0, 4.0)
BOUND = 8.0
"""An error of at most so many percent counts as a time that was met."""
NETWORKS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("cifar_resnet56", 32, {}),
    ("torchvision:vgg11", 32, {}),
    ("torchvision:resnet18", 64, {}),
    ("torchvision:mobilenet_v2", 96, {}),
    ("timm:regnetx_002", 96, {}),
    ("torchvision:densenet121", 64, {}),
)


def measure(options: Options) -> list[Row]:
    """Return `error` and `latency` of every network and speed, and how many were met."""
    from edgepress.models.build import new_model

    rows: list[Row] = []
    met, asked = 0, 0
    for name, size, arguments in NETWORKS[:1] if options.quick else NETWORKS:
        signature = Signature("classification", InputSpec(size, size), tuple("abcdefghij"))
        model = new_model(name, signature, arguments, seed=0)
        for factor in FACTORS[:1] if options.quick else FACTORS:
            asked += 1
            with pinned(1):
                found = _one(options, model, f"{name.partition(':')[2] or name}-{factor:g}x", factor)
            met += any(row.metric == "error" and row.value <= BOUND for row in found)
            rows += found
    return [*rows, options.row("latency-target", "met", met, "networks", "higher", n=asked, runtime="onnxruntime")]


def _one(options: Options, model: Model, name: str, factor: float) -> list[Row]:
    from edgepress.cost.budget import Budget
    from edgepress.cost.clock import export_file, time_file
    from edgepress.prune.config import PruneConfig
    from edgepress.prune.prune import prune

    before = export_file(model.module, model.signature)
    full = time_file(before, model.signature, "onnxruntime", 1, 1)
    try:
        result, report = prune(
            model,
            Budget(latency_ms=full / factor),
            PruneConfig(score="l1"),
            cache=options.work / "prune-cache",
        )
    except EdgepressError as error:
        print(f"  {name}: {error}")
        return []
    after = export_file(result.module, result.signature)
    old, new = alternate(model.signature, before, after, 60 if options.quick else 300)
    about = {"runtime": "onnxruntime", "precision": "fp32", "threads": 1, "batch": 1}
    artifact = f"latency-target-{name}"
    return [
        options.row(artifact, "error", 100 * abs(new / (full / factor) - 1), "%", "lower", **about),
        options.row(artifact, "error_side_by_side", 100 * abs(new / old * factor - 1), "%", "lower", **about),
        options.row(artifact, "latency", new, "ms", "lower", **about),
        options.row(artifact, "latency_asked", full / factor, "ms", "", **about),
        options.row(artifact, "latency_promised", report.promised["latency_ms"], "ms", "", **about),
        options.row(artifact, "attempts", report.attempts, "exports", "lower", **about),
    ]
