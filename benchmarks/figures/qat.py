"""`resnet20-w4a4-qat`, `resnet20-w2a2-qat`, `resnet20-w2a8-qat`, `tiny-91`: ResNet-20 trained under its rounding.

`drop` is counted from the exported FP32 file that each training began with. All choices were made on the validation
split; `tiny-91` is the file of `resnet20-w2a8-qat`, whose bytes are those of its model file.
"""

from dataclasses import replace

from benchmarks.accuracy import Job, labelled, run_jobs, speed_rows, value
from benchmarks.base import Options
from edgepress.measure.rows import Row

RECIPES = ("resnet20-w2a8-qat", "resnet20-w4a4-qat", "resnet20-w2a2-qat")
BEFORE = "resnet20-kd-fp32"
TINY = {"resnet20-w2a8-qat": "tiny-91"}


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet, one seed, and return all rows."""
    jobs = [Job(recipe, 0) for recipe in RECIPES]
    for job in jobs:
        job.freeze(options)
    run_jobs(jobs[:1], options, BEFORE)  # what the recipes share, once
    run_jobs(jobs, options)
    rows: list[Row] = []
    for job in jobs:
        rows += _rows(job, options)
    return rows


def _rows(job: Job, options: Options) -> list[Row]:
    found, bundles = labelled(job, options)
    label = job.recipe
    own = [replace(row, seeds="0") for row in found if row.artifact == label]
    top1, before = value(own, label, "top1"), value(found, BEFORE, "top1")
    fp32 = replace(before, artifact=f"{label}-fp32", seeds="0")
    drop = replace(top1, metric="drop", value=before.value - top1.value, unit="points", better="lower")
    own += [drop, *speed_rows(label, bundles[label], 0, options)]
    if label in TINY:
        own += [replace(value(own, label, metric), artifact=TINY[label]) for metric in ("top1", "bytes")]
    return [fp32, *own]
