"""`prune-recover`: the public ResNet-56 cut to a time and to MACs, taught again, beside Torch-Pruning's own pruner.

One recipe makes all of them with one recovery; of `--parts` only what the files named need. Exported files are timed in
turns, one image on one thread.
"""

import json
import statistics
from dataclasses import replace

import numpy as np

from benchmarks.accuracy import TEACHER, public_weights, value
from benchmarks.base import Options
from benchmarks.chains import run_recipe
from benchmarks.side_by_side import call, in_turns
from edgepress.measure.rows import Row
from edgepress.recipes.store import BUNDLE
from edgepress.runtime.bundle import read_bundle

PARTS = "files"
"""What `--parts` chooses among."""

OURS, PEER = "resnet56-2.57x-macs", "torch-pruning-resnet56-2.57x-macs"
NETWORKS = {"resnet56-2x-time": "time", OURS: "macs", PEER: "peer"}
"""The network that each file was exported from, in the order of the recipe."""


def measure(options: Options) -> list[Row]:
    """Return of each file `top1`, `macs`, `bytes`, `latency`, and `speedup` over the whole network's file; of ours also
    `gain_over_peer` in points and `speedup_over_peer`."""
    checkpoint, files = public_weights(TEACHER), options.wanted(list(NETWORKS))
    peer = json.dumps({"macs": 48829000, "checkpoint": str(checkpoint)})
    result = run_recipe(options, "resnet56-pruned", (), [f"peer-cut.arguments={peer}"], only=("whole", *files))
    programs = {name: read_bundle(result.shelves[name].folder / BUNDLE) for name in ("whole", *files)}
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    times = in_turns({name: call(program, image) for name, program in programs.items()}, 30 if options.quick else 400)
    found = [replace(row, command=options.command) for row in result.rows]
    about = {"runtime": "onnxruntime", "precision": "fp32", "threads": 1, "batch": 1}
    rows = [value(found, name, metric) for name in ("whole", *files) for metric in ("top1", "val_top1", "bytes")]
    rows = [replace(row, artifact="resnet56-whole") if row.artifact == "whole" else row for row in rows]
    for name in files:
        rows.append(replace(value(found, NETWORKS[name], "macs"), artifact=name))
        timed = {**about, "n": len(times[name])}
        rows.append(options.row(name, "latency", statistics.median(times[name]), "ms", "lower", **timed))
        rows.append(options.row(name, "speedup", _ratio(times["whole"], times[name]), "x", "higher", **timed))
    if not {OURS, PEER} <= set(files):
        return rows
    ours, theirs = (value(found, name, "top1") for name in (OURS, PEER))
    rows.append(replace(ours, metric="gain_over_peer", value=ours.value - theirs.value, unit="points"))
    rows.append(options.row(OURS, "speedup_over_peer", _ratio(times[PEER], times[OURS]), "x", "higher", **about))
    return rows


def _ratio(before: list[float], after: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(before, after, strict=True))
