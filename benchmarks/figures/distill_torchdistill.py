"""`torchdistill-kd-<pair>` and `edgepress-kd-<pair>`: the same plain distillation by torchdistill and by us.

CIFAR-10, the public ResNet-56 teaches a fresh ResNet-20; T = 4, the labels weigh 0.1; the same images, epochs, batch,
learning rate, decay and machine, one after the other. `seconds` is the wall time of the student's training; ours
includes the teacher's outputs, computed anew, and the validations; theirs none. `top1` is that of the test set.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy import TEACHER, public_weights
from benchmarks.base import Options
from benchmarks.distilling import epochs
from benchmarks.peers import torchdistill_kd
from edgepress.core.artifact import Model
from edgepress.core.errors import MissingExtraError
from edgepress.core.stage import Context
from edgepress.data.base import Data
from edgepress.data.load import load_data
from edgepress.measure.base import Quiet
from edgepress.measure.rows import Row
from edgepress.models.build import new_model
from edgepress.models.predictor import TorchPredictor
from edgepress.models.stages import Load
from edgepress.tasks.base import tasks
from edgepress.train.stages import Distill
from edgepress.train.state import NoCheckpoint

STUDENT, PAIR = "cifar_resnet20", "resnet56-resnet20"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH, LR, DECAY = 128, 0.1, 5e-4


def measure(options: Options) -> list[Row]:
    """Return top-1 and seconds of both, and the ratio of the seconds."""
    try:
        import torchdistill
    except ModuleNotFoundError:
        raise MissingExtraError("the figure distill-torchdistill", "bench") from None
    data = load_data({"cifar10": {"limit": 640, "limit_eval": 250} if options.quick else {}})
    count = 1 if options.quick else epochs(60, 10)
    teacher = Load(model="cifar_resnet56", weights=str(public_weights(TEACHER)), mean=MEAN, std=STD)
    with tempfile.TemporaryDirectory() as cache:
        ctx = Context(data, 0, Quiet(), NoCheckpoint(), lambda records: None, Path(cache), {}, {})
        model = teacher(None, ctx)
        assert isinstance(model, Model)
        ours, our_seconds = _ours(model.with_key("public"), data, count, Path(cache))
        theirs, their_seconds = _theirs(model, data, count)
    about = {
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "runtime": "torch",
        "n": len(data.test),
        "split": "test",
    }
    rows: list[Row] = []
    for name, student, taken in (("edgepress", ours, our_seconds), ("torchdistill", theirs, their_seconds)):
        artifact, version = f"{name}-kd-{PAIR}", {"seeds": "0"}
        rows.append(options.row(artifact, "top1", _top1(student, data), "%", "higher", **about, **version))
        rows.append(options.row(artifact, "seconds", taken, "s", "lower", **{**about, "n": 1, "split": "train"}))
    ratio = our_seconds / their_seconds
    rows.append(options.row(f"edgepress-kd-{PAIR}", "seconds_ratio", ratio, "x", "lower", **{**about, "n": 1}))
    print(f"  torchdistill {torchdistill.__version__}, {count} epochs")
    return rows


def _ours(teacher: Model, data: Data, count: int, cache: Path) -> tuple[Model, float]:
    stage = Distill(
        epochs=count,
        model=STUDENT,
        teacher="$teacher",
        batch=BATCH,
        lr=LR,
        weight_decay=DECAY,
        alpha=0.9,
        views=min(12, count),
    )
    ctx = Context(data, 0, Quiet(), NoCheckpoint(), lambda records: None, cache, {}, {"$teacher": teacher})
    begin = time.perf_counter()
    student = stage(None, ctx)
    assert isinstance(student, Model)
    return student, time.perf_counter() - begin


def _theirs(teacher: Model, data: Data, count: int) -> tuple[Model, float]:
    images, targets = data.train.read(np.arange(len(data.train)))
    spec = teacher.signature  # both of its networks see one normalization: that of the teacher
    student = new_model(STUDENT, spec, {}, 0)
    taken = torchdistill_kd.distill(
        teacher.module, student.module, images, targets, MEAN, STD, count, lr=LR, batch=BATCH, weight_decay=DECAY
    )
    student.module.cpu().eval()
    return student, taken


def _top1(model: Model, data: Data) -> float:
    task = tasks.get("classification")
    meter, predict = task.meter(len(data.labels)), TorchPredictor(model)
    for indices in np.array_split(np.arange(len(data.test)), max(1, len(data.test) // 500)):
        images, targets = data.test.read(indices)
        meter.update(predict(images), targets)
    return meter.result()["top1"]
