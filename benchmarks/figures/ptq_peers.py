"""`ptq-peers`: the public ResNet-20 and ResNet-56 in INT8, by ONNX Runtime's static quantization, NNCF and edgepress.

All three start from the same weights and see the same 512 images of the train split; the two peers get the FP32 file
that edgepress exports. All files run on ONNX Runtime: the whole CIFAR-10 test set, and one image at a time on one
thread, in turns.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import public_weights
from benchmarks.base import Options
from edgepress.core.artifact import Model, Program, Signature
from edgepress.core.inputs import InputSpec
from edgepress.data.base import Data
from edgepress.measure.rows import Row
from edgepress.measure.timing import pinned
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import to_input

WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
SPEC = InputSpec(32, 32, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""How the images were normalized for the public weights."""

CALIBRATE = 512


def measure(options: Options) -> list[Row]:
    """Return `top1`, `drop` (from the FP32 file), `bytes` and `latency` of each file, and `latency_ratio`: its median
    time as a multiple of that of the edgepress file in the same run."""
    from edgepress.data.load import load_data

    data = load_data({"cifar10": {"limit": 400}} if options.quick else "cifar10")
    images = data.calibration(64 if options.quick else CALIBRATE, 0)
    rows: list[Row] = []
    for name in WEIGHTS:
        files = programs(name, data, images)
        scores = {kind: top1(program, data) for kind, program in files.items()}
        times = in_turns({k: call(p, images) for k, p in files.items()}, 30 if options.quick else 300)
        ours = statistics.median(times["int8-edgepress"])
        for kind, program in files.items():
            about = {"runtime": program.runtime, "precision": program.precision}
            timed = {**about, "n": len(times[kind]), "threads": 1, "batch": 1}
            p50, p99 = (float(np.quantile(times[kind], q)) * 1e3 for q in (0.5, 0.99))
            drop = scores["fp32"] - scores[kind]
            scored = {**about, "n": len(data.test), "split": "test"}
            artifact = f"{name}-{kind}"
            rows += [
                options.row(artifact, "top1", scores[kind], "%", "higher", **scored),
                options.row(artifact, "bytes", len(program.files["model.onnx"]), "B", "lower", **about),
                options.row(artifact, "latency", p50, "ms", "lower", p50=p50, p99=p99, **timed),
                options.row(artifact, "latency_ratio", p50 / 1e3 / ours, "x", "lower", **timed),
            ]
            rows += [options.row(artifact, "drop", drop, "points", "lower", **scored)] if kind != "fp32" else []
    return rows


def programs(name: str, data: Data, images: NDArray[np.uint8]) -> dict[str, Program]:
    """Return the FP32 file of the public network `name` and the three INT8 files made of it."""
    from benchmarks.peers import nncf_ptq, ort_static
    from edgepress.export.onnx import export_onnx
    from edgepress.quantize.ptq import quantize

    model = public(name, data.labels)
    fp32 = export_onnx(model, images[:64])
    file, calibration = fp32.files["model.onnx"], to_input(images, SPEC)
    return {
        "fp32": fp32,
        "int8-edgepress": export_onnx(quantize(model, images), images),
        "int8-ort-static": peer(ort_static.quantize(file, calibration), fp32),
        "int8-nncf": peer(nncf_ptq.quantize(file, calibration), fp32),
    }


def public(name: str, labels: tuple[str, ...]) -> Model:
    """Return the public network `name`, `resnet20` or `resnet56`, with its weights."""
    from edgepress.models.build import new_model
    from edgepress.models.weights import load_weights

    model = new_model(f"cifar_{name}", Signature("classification", SPEC, labels), {}, 0)
    load_weights(model.module, public_weights(WEIGHTS[name]))
    return model


def peer(file: bytes, fp32: Program) -> Program:
    """Return the INT8 file of another tool as a program, so that all are run by the same code."""
    return Program(fp32.signature, "onnxruntime", "w8a8", {"model.onnx": file})


def top1(program: Program, data: Data) -> float:
    """Return the accuracy on the whole test split, in percent."""
    images, targets = data.test.read(np.arange(len(data.test), dtype=np.int64))
    return 100 * float((EnginePredictor(program)(images).argmax(1) == targets).mean())


def call(program: Program, images: NDArray[np.uint8]) -> Callable[[], object]:
    """Return a function that runs `program` on one prepared image, on one thread."""
    predictor, array = EnginePredictor(program, threads=1), np.ascontiguousarray(to_input(images[:1], SPEC))
    return lambda: predictor.run(array)


def in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of `rounds` calls of each, on one core, one after the other in every round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with pinned(1):
        for number in range(rounds + 20):
            for name, run in calls.items():
                begin = time.perf_counter()
                run()
                taken = time.perf_counter() - begin
                if number >= 20:
                    times[name].append(taken)
    return times
