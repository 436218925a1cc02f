"""Networks trained under their rounding: what the figures `qat-weights`, `qat-w4a4` and `qat-w2a2` share.

`drop` is counted from the exported FP32 file that a training began with. All choices were made on the validation split,
with one seed. `tiny-91` is the file of `resnet20-w2a8-qat`, `tiny-88` that of `resnet8-w4a8-qat`.
"""

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.accuracy import Job, labelled, remember, run_jobs, speed_rows, value
from benchmarks.base import Options
from edgepress.measure.rows import Row

BEFORE = {
    "resnet20-w2a8-qat": "resnet20-kd-fp32",
    "resnet20-w4a4-qat": "resnet20-kd-fp32",
    "resnet20-w2a2-qat": "resnet20-kd-fp32",
    "resnet8-w4a8-qat": "resnet8-kd-fp32",
}
"""The recipes, and the file that each one's network was before."""
TINY = {"resnet20-w2a8-qat": "tiny-91", "resnet8-w4a8-qat": "tiny-88"}


def measure(options: Options, recipes: Sequence[str]) -> list[Row]:
    """Train what is not trained yet of `recipes` and return all rows."""
    jobs = [Job(recipe, 0) for recipe in recipes]
    for job in jobs:
        job.freeze(options)
    run_jobs(jobs[:1], options, BEFORE[jobs[0].recipe])  # what the recipes share, once
    run_jobs(jobs, options)
    return [row for job in jobs for row in _rows(job, options)]


def _rows(job: Job, options: Options) -> list[Row]:
    found, bundles = labelled(job, options)
    label = job.recipe
    own = [replace(row, seeds="0") for row in found if row.artifact == label]
    top1, before = value(own, label, "top1"), value(found, BEFORE[label], "top1")
    drop = replace(top1, metric="drop", value=before.value - top1.value, unit="points", better="lower")
    rows = [replace(before, artifact=f"{label}-fp32", seeds="0"), *own, drop]
    rows += speed_rows(label, bundles[label], 0, options)
    if label in TINY:
        rows += [replace(value(own, label, metric), artifact=TINY[label]) for metric in ("top1", "bytes")]
    remember(options.work / "chosen.json", {label: {"seed": 0, "bundle": str(bundles[label])}})
    return rows
