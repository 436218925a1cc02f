"""`resnet18-half-fp32`, `-int8`, `-int4`, `-int2`: accuracy, bytes and speed of a trained ResNet-18 at 32x32.

It has half the width of the paper, the largest that two cores train in time; bytes and speed of the whole one,
untrained, are in the figure `packed`.

All four files in turns, one image at a time on one thread; `speedup` is over the FP32 file on the same engine.
"""

import statistics
from dataclasses import replace

from benchmarks.accuracy import public_sets, value
from benchmarks.base import RECIPES, Options
from benchmarks.job import patiently, recipe
from benchmarks.side_by_side import call, in_turns
from edgepress.measure.rows import Row
from edgepress.recipes.runner import Options as RunOptions
from edgepress.recipes.store import BUNDLE
from edgepress.runtime.bundle import read_bundle

FILES = tuple(f"resnet18-half-{kind}" for kind in ("fp32", "int8", "int4", "int2"))


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet; return `top1`, `drop`, `bytes`, `ratio_bytes`, `latency` and `speedup`."""
    from edgepress.data.load import load_data

    path = RECIPES / "resnet18.yaml"
    wanted = recipe(path, public_sets(path), options.quick)
    result = patiently(wanted, options.work / "runs", RunOptions(command=options.command))
    found = [replace(row, command=options.command) for row in result.rows]
    images = load_data({"cifar10": {"limit": 10, "limit_eval": 10}}).calibration(1, 0)
    programs = {name: read_bundle(result.shelves[name].folder / BUNDLE) for name in FILES}
    times = in_turns({name: call(program, images) for name, program in programs.items()}, 30 if options.quick else 300)
    top1, size = (value(found, FILES[0], metric) for metric in ("top1", "bytes"))
    rows: list[Row] = []
    for name, program in programs.items():
        about = {"runtime": program.runtime, "precision": program.precision}
        timed = {**about, "n": len(times[name]), "threads": 1, "batch": 1}
        p50 = statistics.median(times[name])
        faster = statistics.median(a / b for a, b in zip(times[FILES[0]], times[name], strict=True))
        own = [row for row in found if row.artifact == name]
        mine, its_size = value(own, name, "top1"), value(own, name, "bytes")
        rows += [
            *own,
            replace(mine, metric="drop", value=top1.value - mine.value, unit="points", better="lower"),
            replace(its_size, metric="ratio_bytes", value=size.value / its_size.value, unit="x", better="higher"),
            options.row(name, "latency", p50, "ms", "lower", p50=p50, **timed),
            options.row(name, "speedup", faster, "x", "higher", **timed),
        ]
    return rows
