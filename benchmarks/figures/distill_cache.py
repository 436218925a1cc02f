"""`cache`, metric `ratio`: the wall time of a distillation whose teacher's outputs are kept, over the student alone.

Whole stages are timed, each epoch's validation and the diagnosis included, in turns (alone, taught, alone ...), after
one of each that is not counted: it fills the cache and settles the arithmetic. `cold` is that first distillation over
the student alone: what the teacher costs once.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.accuracy import TEACHER, public_weights
from benchmarks.base import Options
from edgepress.core.artifact import Model
from edgepress.core.stage import Context
from edgepress.data.base import Data
from edgepress.data.load import load_data
from edgepress.measure.base import Quiet
from edgepress.measure.rows import Row
from edgepress.models.stages import Load
from edgepress.train.stages import Distill, Fitting, Train
from edgepress.train.state import NoCheckpoint

STUDENT, EPOCHS, ROUNDS = "cifar_resnet20", 4, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def measure(options: Options) -> list[Row]:
    """Return the ratio with a full cache and with an empty one."""
    limits = {"limit": 1920, "limit_eval": 250} if options.quick else {"limit": 12800, "limit_eval": 1000}
    student, rounds = ("cifar_resnet8", 1) if options.quick else (STUDENT, ROUNDS)
    data = load_data({"cifar10": limits})
    load = Load(model="cifar_resnet56", weights=str(public_weights(TEACHER)), mean=MEAN, std=STD)
    loaded = load(None, Context(data, 0, Quiet(), NoCheckpoint(), lambda records: None, Path(), {}, {}))
    assert isinstance(loaded, Model)
    teacher = loaded.with_key("public")
    alone = Train(epochs=EPOCHS, model=student)
    taught = Distill(epochs=EPOCHS, model=student, teacher="$teacher", views=2)
    with tempfile.TemporaryDirectory() as cache:
        seconds(replace(alone, epochs=1), data, teacher, Path(cache))  # chooses the arithmetic
        cold = seconds(taught, data, teacher, Path(cache))
        pairs = [tuple(seconds(s, data, teacher, Path(cache)) for s in (alone, taught)) for _ in range(rounds)]
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    about = {
        "n": rounds,
        "threads": torch.get_num_threads(),
        "batch": alone.batch,
        "split": "train",
        "runtime": "torch",
    }
    first = cold / statistics.median(ours for ours, _ in pairs)
    return [
        options.row("cache", "ratio", statistics.median(ratios), "x", "lower", **about),
        options.row("cache", "ratio_worst", ratios[-1], "x", "lower", **about),
        options.row("cache", "cold", first, "x", "lower", **{**about, "n": 1}),
    ]


def seconds(stage: Fitting, data: Data, teacher: Model, cache: Path) -> float:
    """Return the wall time of a stage."""
    ctx = Context(data, 0, Quiet(), NoCheckpoint(), lambda records: None, cache, {}, {"$teacher": teacher})
    begin = time.perf_counter()
    stage(None, ctx)
    return time.perf_counter() - begin
