"""NNCF's post-training quantization of an ONNX file, with its defaults.

https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide/quantizing-models-post-training/basic-quantization-flow.html:
symmetric weights with one scale per channel, fast bias correction.
"""

import logging

import nncf
import numpy as np
import onnx
from numpy.typing import NDArray


def quantize(fp32_onnx: bytes, calibration: NDArray[np.float32], mixed: bool = False) -> bytes:
    """Return the INT8 file that `nncf.quantize` makes of the file `fp32_onnx`.

    `calibration` are pre-processed images `(N, channels, height, width)`, given one at a time as in NNCF's examples.
    `mixed` takes asymmetric activations, which NNCF advises for networks with activations other than ReLU.
    """
    nncf.set_log_level(logging.ERROR)
    file = onnx.load_from_string(fp32_onnx)
    name = file.graph.input[0].name
    images = [{name: calibration[k : k + 1]} for k in range(len(calibration))]
    quantized = nncf.quantize(
        file,
        nncf.Dataset(images),
        preset=nncf.QuantizationPreset.MIXED if mixed else nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(images),
    )
    return quantized.SerializeToString()
