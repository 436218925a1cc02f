"""`unet-31m-teacher`, `unet-1m-alone`, `unet-1m-kd`, `unet-1m-int8`: CamVid test at 240x180, the exported file.

The teacher has the widths of the paper, 31 M parameters. All networks begin with stride 2: at full size the teacher
takes 0.8 s an image and core to train. The speed-up is taken against the teacher in PyTorch on one thread.
"""

import statistics
from dataclasses import replace

from benchmarks.base import Options
from benchmarks.distilling import done, score
from benchmarks.scenes import SCORES, as_file, in_torch, over_seeds, prepared
from benchmarks.side_by_side import in_turns
from edgepress.core.artifact import Model, Program
from edgepress.measure.rows import Row
from edgepress.recipes.runner import Result

NAMES = {"teacher": "unet-31m-teacher", "alone": "unet-1m-alone", "fp32": "unet-1m-kd", "int8": "unet-1m-int8"}


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet; return scores over seeds, bytes and speed-ups of the first seed."""
    found: dict[tuple[str, str], dict[int, Row]] = {}
    results: list[Result] = []
    for seed in options.seeds[:1] if options.quick else options.seeds:
        sets = {"name": f"camvid-unet-seed{seed}", "seed": seed, "begun.seed": 0, "teacher.seed": 0}
        results.append(done(prepared("camvid-unet", options, sets), options))
        for label in NAMES:
            for metric in SCORES:
                found.setdefault((label, metric), {})[seed] = score(results[-1].rows, label, metric)
    rows = [
        row
        for (label, metric), by_seed in found.items()
        for row in over_seeds(
            NAMES[label], metric, {0: by_seed[min(by_seed)]} if label == "teacher" else by_seed, options
        )
    ]
    first = results[0]
    sizes = [row for row in first.rows if row.metric == "bytes" and row.artifact in ("fp32", "int8")]
    rows += [replace(row, artifact=NAMES[row.artifact], command=options.command) for row in sizes]
    return rows + _speed(first, options)


def _speed(result: Result, options: Options) -> list[Row]:
    """Return milliseconds of the file and its speed-ups, taken side by side."""
    teacher, program = (result.shelves[label].load() for label in ("teacher", "int8"))
    assert isinstance(teacher, Model) and isinstance(program, Program)
    calls = {"file": as_file(program), "teacher": in_torch(teacher)}
    times = in_turns(calls, 3 if options.quick else 30)
    about = {"n": len(times["file"]), "threads": 1, "batch": 1, "runtime": "onnxruntime", "precision": "w8a8"}
    ratio = statistics.median(a / b for a, b in zip(times["teacher"], times["file"], strict=True))
    return [
        options.row("unet-1m-int8", "latency", statistics.median(times["file"]), "ms", "lower", **about),
        options.row("unet-1m-int8", "speedup_over_teacher_in_torch", ratio, "x", "higher", **about),
    ]
