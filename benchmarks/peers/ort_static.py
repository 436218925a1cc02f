"""ONNX Runtime's own static quantization, as its documentation recommends for a CPU with VNNI.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html: pre-processing (shape inference and graph
optimization, which folds batch norms), QDQ, unsigned activations, signed weights, one scale per channel, min-max.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

BATCH = 64


def quantize(
    fp32_onnx: bytes, calibration: NDArray[np.float32], method: str = "MinMax", reduce_range: bool = False
) -> bytes:
    """Return the INT8 file that `quantize_static` makes of the file `fp32_onnx`.

    `calibration` are pre-processed images `(N, channels, height, width)`; `method` names a `CalibrationMethod`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fp32.onnx").write_bytes(fp32_onnx)
        quant_pre_process(folder / "fp32.onnx", folder / "prepared.onnx", auto_merge=True)
        quantize_static(
            folder / "prepared.onnx",
            folder / "int8.onnx",
            _Reader(onnx.load_from_string(fp32_onnx).graph.input[0].name, calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            calibrate_method=CalibrationMethod[method],
        )
        return (folder / "int8.onnx").read_bytes()


class _Reader(CalibrationDataReader):
    """Hands out the calibration images, `BATCH` at a time."""

    def __init__(self, name: str, images: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = iter(
            {name: images[start : start + BATCH]} for start in range(0, len(images), BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the next batch by input name, None after the last."""
        return next(self._batches, None)
