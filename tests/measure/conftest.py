"""A run folder as a recipe leaves it, with figures that look like real ones."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepress.measure.rows import Row, append_rows

ABOUT = {
    "n": 10_000, "split": "test", "seeds": "0", "versions": "torch 2.14.1; onnxruntime 1.31.1",
    "machine": "AMD EPYC, 2 cores, avx512_vnni", "commit": "0123456789ab", "date": "2026-02-03T10:00:00Z",
    "command": "edgepress run recipe.yaml",
}  # fmt: skip

# label, stage, input, precision, runtime, top1, bytes, ms, epochs, seconds
STEPS = [
    ("teacher", "train", "", "fp32", "torch", 93.39, 3_444_000, 9.84, 40, 2520.0),
    ("baseline", "train", "", "fp32", "torch", 87.62, 317_000, 1.41, 40, 480.0),
    ("student", "distill", "", "fp32", "torch", 88.74, 317_000, 1.40, 40, 590.0),
    ("student-onnx", "export", "student", "fp32", "onnxruntime", 88.74, 318_500, 0.214, 0, 2.1),
    ("int8", "quantize", "student", "w8a8", "torch", 88.66, 317_900, 4.8, 0, 14.2),
    ("int8-onnx", "export", "int8", "w8a8", "onnxruntime", 88.65, 97_900, 0.287, 0, 3.4),
]

RECIPE = {
    "name": "cifar10-resnet8",
    "data": {"cifar10": {}},
    "seed": 0,
    "stages": [
        {"train": {"name": "teacher", "model": "cifar_resnet56", "epochs": 40}},
        {"train": {"name": "baseline", "model": "cifar_resnet8", "epochs": 40}},
        {"distill": {"name": "student", "model": "cifar_resnet8", "teacher": "$teacher", "epochs": 40}},
        {"export": {"name": "student-onnx", "to": "onnx"}},
        {"quantize": {"name": "int8", "weights": 8, "activations": 8, "calibrate": 512}},
        {"export": {"name": "int8-onnx", "to": "onnx"}},
    ],
    "measure": ["quality", "agreement", "size", {"latency": {"threads": 1, "batch": 1}}],
}


def rows_of(label: str, runtime: str, precision: str, top1: float, size: float, ms: float) -> list[Row]:
    """Return the rows that the measures write about one artifact."""
    base = Row(label, "top1", top1, "%", "higher", runtime=runtime, precision=precision, **ABOUT)
    timed = replace(base, n=300, threads=1, batch=1, better="lower")
    return [
        base,
        replace(base, metric="top5", value=99.4),
        replace(base, metric="agreement_parent", value=97.81),
        replace(base, metric="bytes", value=float(size), unit="bytes", better="lower", n=1, split=""),
        replace(timed, metric="latency", value=ms, unit="ms", p50=ms, p99=ms * 1.3),
        replace(timed, metric="latency_p90", value=ms * 1.1, unit="ms"),
        replace(timed, metric="throughput", value=990 / ms, unit="images/s", better="higher"),
        replace(timed, metric="latency_spread", value=6.1),
    ]


def log_of(epochs: int, best: float) -> list[dict[str, Any]]:
    """Return the events of a training that ends at `best` percent."""
    return [
        {"event": "epoch", "epoch": e, "loss": 1.9 * math.exp(-e / 9) + 0.1, "lr": 0.1, "images_per_second": 4000 + e,
         "val": {"top1": best - 45 * math.exp(-e / 6)}}
        for e in range(1, epochs + 1)
    ]  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run folder and returns it; `steps` and `content` change what is in it."""

    def make(steps: list[tuple[Any, ...]] | None = None, **content: Any) -> Path:
        runs = tmp_path / "runs"
        stages: list[dict[str, Any]] = []
        for step in STEPS if steps is None else steps:
            label, stage, source, precision, runtime, top1, size, ms, epochs, seconds = step
            folder = runs / f"{stage}-{abs(hash(label)):016x}"[:30]
            append_rows(folder / "rows" / "all-0.jsonl", rows_of(label, runtime, precision, top1, size, ms))
            if epochs:
                text = "".join(json.dumps(event) + "\n" for event in log_of(epochs, top1))
                (folder / "log.jsonl").write_text(text)
            stages.append(
                {"label": label, "stage": stage, "folder": folder.name, "key": folder.name[-16:], "seconds": seconds,
                 "input": source, "precision": precision}
            )  # fmt: skip
        folder = runs / "recipe-cifar10-resnet8"
        folder.mkdir(parents=True)
        environment = {"machine": ABOUT["machine"], "versions": ABOUT["versions"], "python": "3.11.9"}
        run = {
            "name": "cifar10-resnet8", "recipe": RECIPE, "command": "edgepress run recipes/cifar10-resnet8.yaml",
            "date": "2026-02-03T10:00:00Z", "environment": environment, "stages": stages,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps({**run, **content}))
        return folder

    return make
