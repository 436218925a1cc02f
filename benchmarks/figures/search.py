"""`search`: the student that a search found against the one made by hand, of equal time and taught alike."""

import statistics
from dataclasses import replace

import numpy as np

from benchmarks.accuracy import TEACHER, public_weights, value
from benchmarks.base import RECIPES, Options
from benchmarks.chains import file_ms
from benchmarks.job import patiently, recipe
from benchmarks.side_by_side import call, in_turns
from edgepress.measure.rows import Row
from edgepress.recipes.runner import Options as RunOptions
from edgepress.recipes.store import BUNDLE
from edgepress.runtime.bundle import read_bundle

BY_HAND = "cifar_resnet8"


def measure(options: Options) -> list[Row]:
    """Return `top1` and `latency` of both, `gain` in points, and score and cost of each network on the front."""
    budget = f"{{latency_ms: {file_ms(options, BY_HAND):.4f}, threads: 1}}"
    sets = [f"teacher.weights={public_weights(TEACHER)}", f"found-start.budget={budget}"]
    wanted = recipe(RECIPES / "search.yaml", sets, options.quick)
    result = patiently(wanted, options.work / "runs", RunOptions(command=options.command))
    names = ("found-fp32", "by-hand-fp32")
    programs = {name: read_bundle(result.shelves[name].folder / BUNDLE) for name in names}
    image = np.zeros((1, 32, 32, 3), np.uint8)
    times = in_turns({name: call(program, image) for name, program in programs.items()}, 30 if options.quick else 300)
    found = [replace(row, artifact=f"search-{row.artifact}", command=options.command) for row in result.rows]
    about = {"runtime": "onnxruntime", "precision": "fp32", "threads": 1, "batch": 1}
    scores = [value([r for r in found if r.split == "test"], f"search-{name}", "top1") for name in names]
    notes = result.shelves["found-start"].notes()
    rows = [row for row in found if row.metric in ("top1", "params", "macs")]
    rows += [
        options.row(f"search-{n}", "latency", statistics.median(t), "ms", "lower", n=len(t), **about)
        for n, t in times.items()
    ]
    rows.append(replace(scores[0], metric="gain", value=scores[0].value - scores[1].value, unit="points"))
    for number, trial in enumerate(notes["front"], 1):
        name = f"search-front-{number}-{trial['candidate']['model']}-{trial['candidate']['arguments']['width']}"
        rows += [
            options.row(name, "score", trial["score"], "%", "higher", split="val", runtime="torch"),
            options.row(name, notes["cost"], trial["costs"][notes["cost"]], "ms", "lower", **about),
        ]
    return rows
