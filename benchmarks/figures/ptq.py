"""`ptq`: the public ResNet-20 and ResNet-56 in INT8, ResNet-20 with 4-bit weights and with bits under a budget, without
any training.

512 images of the train split calibrate. The settings are those that the validation split preferred; the test split
is looked at once, by the exported file. `seconds` is processor time of the quantization alone, on one thread.
"""

import time

import torch

from benchmarks.base import Options
from benchmarks.side_by_side import CALIBRATE, public, top1
from edgepress.export.onnx import export_onnx
from edgepress.measure.rows import Row
from edgepress.quantize.config import Budget, QuantizeConfig
from edgepress.quantize.ptq import quantize

CHOSEN = {
    "resnet20-int8-ptq": ("resnet20", QuantizeConfig()),
    "resnet56-int8-ptq": ("resnet56", QuantizeConfig()),
    "resnet20-w4a8-ptq": ("resnet20", QuantizeConfig(weights=4, rounding="learned")),
    "resnet20-budget-ptq": ("resnet20", QuantizeConfig(rounding="learned", budget=Budget(bytes=112_000))),
}
"""Artifact, network and settings."""


def measure(options: Options) -> list[Row]:
    """Return `top1` on the whole test split, `bytes` of the file and `seconds` of quantizing, for each artifact."""
    from edgepress.data.load import load_data

    data = load_data({"cifar10": {"limit": 400, "limit_eval": 100}} if options.quick else "cifar10")
    images = data.calibration(64 if options.quick else CALIBRATE, 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[Row] = []
    try:
        for artifact, (network, config) in CHOSEN.items():
            model = public(network, data.labels)
            begin = time.process_time()
            quantized = quantize(model, images, config)
            seconds = time.process_time() - begin
            program = export_onnx(quantized, images)
            about = {"runtime": program.runtime, "precision": program.precision}
            size = sum(len(content) for content in program.files.values())
            scored = {**about, "n": len(data.test), "split": "test"}
            rows += [
                options.row(artifact, "top1", top1(program, data), "%", "higher", **scored),
                options.row(artifact, "bytes", size, "B", "lower", **about),
                options.row(artifact, "seconds", seconds, "s", "lower", n=len(images), threads=1),
            ]
    finally:
        torch.set_num_threads(threads)
    return rows
