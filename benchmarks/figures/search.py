"""`search`: the student that a search found against the one made by hand, of equal time and taught alike."""

import json
import statistics
from dataclasses import replace

import numpy as np

from benchmarks.accuracy import TEACHER, public_weights, value
from benchmarks.base import RECIPES, Options, one_core
from benchmarks.job import patiently, recipe
from benchmarks.side_by_side import call, in_turns
from edgepress.core.artifact import Signature
from edgepress.core.files import write_json
from edgepress.core.inputs import InputSpec
from edgepress.cost.clock import export_file, time_file
from edgepress.measure.rows import Row
from edgepress.models.build import new_model
from edgepress.recipes.runner import Options as RunOptions
from edgepress.recipes.store import BUNDLE
from edgepress.runtime.bundle import read_bundle

BY_HAND = "cifar_resnet8"


def measure(options: Options) -> list[Row]:
    """Return `top1` and `latency` of both, `gain` in points, and score and cost of each network on the front."""
    budget = f"{{latency_ms: {_file_ms(options, BY_HAND):.4f}, threads: 1}}"
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
        name = f"search-front-{number}-{_shape(trial['candidate']['arguments'])}"
        rows += [
            options.row(name, "score", trial["score"], "%", "higher", split="val", runtime="torch"),
            options.row(name, notes["cost"], trial["costs"][notes["cost"]], "ms", "lower", **about),
        ]
    return rows


def _shape(arguments: dict[str, list[int]]) -> str:
    """Return the blocks and channels of the stages in a word: `0-1-2x16-32-64`."""
    return "x".join("-".join(map(str, arguments[name])) for name in ("blocks", "widths"))


def _file_ms(options: Options, network: str) -> float:
    """Return the milliseconds of the FP32 file of a network for CIFAR-10: ONNX Runtime, one thread, one image.

    Widths decide a time, not values. It is measured once and kept: a budget that moved would cut anew.
    """
    known = options.work / "file-ms.json"
    found: dict[str, float] = json.loads(known.read_text()) if known.exists() else {}
    if network not in found:
        signature = Signature("classification", InputSpec(32, 32), tuple("abcdefghij"))
        with one_core():
            file = export_file(new_model(network, signature, {}, 0).module, signature)
            found[network] = time_file(file, signature, "onnxruntime", 1, 1)
        write_json(known, found)
    return found[network]
