"""One network in INT8 by ONNX Runtime's static quantization, NNCF and edgepress: what several figures share.

All three start from the same weights and see the same images of the train split; the two peers get the FP32 file
that edgepress exports. All files run on ONNX Runtime: the whole test split, and one image at a time on one thread, in
turns.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import public_weights
from benchmarks.base import Options, one_core
from edgepress.core.artifact import Model, Program, Signature
from edgepress.core.inputs import InputSpec
from edgepress.cost.clock import TURN, WARM
from edgepress.data.base import Data
from edgepress.measure.rows import Row
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import to_input

WEIGHTS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}
SPEC = InputSpec(32, 32, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""How the images were normalized for the public weights."""

CALIBRATE = 512


def compare(name: str, model: Model, data: Data, images: NDArray[np.uint8], options: Options) -> list[Row]:
    """Return `top1`, `drop` (from the FP32 file), `bytes` and `latency` of the FP32 file and the three INT8 files, and
    `latency_ratio`: its median time as a multiple of that of the edgepress file in the same run."""
    files = programs(model, images)
    scores = {kind: top1(program, data) for kind, program in files.items()}
    times = in_turns({kind: call(program, images) for kind, program in files.items()}, 30 if options.quick else 300)
    ours = statistics.median(times["int8-edgepress"])
    rows: list[Row] = []
    for kind, program in files.items():
        about = {"runtime": program.runtime, "precision": program.precision}
        timed = {**about, "n": len(times[kind]), "threads": 1, "batch": 1}
        p50, p99 = (float(np.quantile(times[kind], q)) for q in (0.5, 0.99))
        drop = scores["fp32"] - scores[kind]
        scored = {**about, "n": len(data.test), "split": "test"}
        artifact = f"{name}-{kind}"
        rows += [
            options.row(artifact, "top1", scores[kind], "%", "higher", **scored),
            options.row(artifact, "bytes", len(program.files["model.onnx"]), "B", "lower", **about),
            options.row(artifact, "latency", p50, "ms", "lower", p50=p50, p99=p99, **timed),
            options.row(artifact, "latency_ratio", p50 / ours, "x", "lower", **timed),
        ]
        rows += [options.row(artifact, "drop", drop, "points", "lower", **scored)] if kind != "fp32" else []
    return rows


def programs(model: Model, images: NDArray[np.uint8]) -> dict[str, Program]:
    """Return the FP32 file of `model` and the three INT8 files made of it."""
    from benchmarks.peers import nncf_ptq, ort_static
    from edgepress.export.onnx import export_onnx
    from edgepress.quantize.ptq import quantize

    fp32 = export_onnx(model, images[:64])
    file, calibration = fp32.files["model.onnx"], to_input(images, model.signature.input)
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
    predictor = EnginePredictor(program, threads=1)
    array = np.ascontiguousarray(to_input(images[:1], program.signature.input))
    return lambda: predictor.run(array)


def in_turns(calls: Mapping[str, Callable[[], object]], times: int) -> dict[str, list[float]]:
    """Return the milliseconds of `times` calls of each on one core, in turns of ten behind three untimed ones.

    Somebody who uses a network calls it again and again: call by call in turns, a small file would be told how long
    it takes to fetch it anew into the caches that a large one has emptied (see `edgepress.cost.clock`). The order is
    drawn anew in every round, so that none always follows the same other.
    """
    names, found = list(calls), {name: list[float]() for name in calls}
    order = np.random.default_rng(0)
    with one_core():
        for _ in range(-(-times // TURN)):
            for name in order.permutation(names).tolist():
                for number in range(WARM + TURN):
                    begin = time.perf_counter()
                    calls[name]()
                    if number >= WARM:
                        found[name].append((time.perf_counter() - begin) * 1e3)
    return found
