"""The engines `onnxruntime-cuda` and `onnxruntime-tensorrt`: an ONNX file on an NVIDIA device.

They have no bundles of their own: `edgepress bench` runs those of `onnxruntime` with them. Written against the public
API (https://onnxruntime.ai/docs/execution-providers), and not run where this was written, for want of a device.
"""

import importlib
from typing import Any

from edgepress.runtime.engine import engines
from edgepress.runtime.onnxruntime_engine import OnnxRuntimeEngine

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class ProviderEngine(OnnxRuntimeEngine):
    """ONNX Runtime with the first of `providers`, and the others for what it cannot do."""

    device = "cuda"
    runs = "onnxruntime"

    def __init__(self, *providers: str) -> None:
        self.providers = providers

    def available(self) -> str | None:
        """Return None where this ONNX Runtime was built with the provider."""
        reason = super().available()
        if reason is not None:
            return reason
        library: Any = importlib.import_module("onnxruntime")
        if self.providers[0] not in library.get_available_providers():
            return f"this onnxruntime has no {self.providers[0]}: pip install onnxruntime-gpu, on an NVIDIA device"
        return None


engines.register("onnxruntime-cuda")(ProviderEngine(CUDA, CPU))
engines.register("onnxruntime-tensorrt")(ProviderEngine(TENSORRT, CUDA, CPU))
