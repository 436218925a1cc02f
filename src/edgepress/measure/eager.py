"""A saved network as PyTorch runs it from Python, operation by operation: what every exported file is held against."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Signature


class Eager:
    """The network in the folder of a model, with the calls of `runtime.predictor.EnginePredictor`.

    Sets the threads of PyTorch for the whole process. Raises what `models.structure.load_model` raises.
    """

    def __init__(self, folder: Path, threads: int, batch: int = 64) -> None:
        import torch

        from edgepress.models.predictor import TorchPredictor
        from edgepress.models.structure import load_model

        torch.set_num_threads(threads)
        self._torch: Any = torch
        model = load_model(folder)
        self._module = model.module.eval()
        self.signature: Signature = model.signature
        self._predict = TorchPredictor(model, batch)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs for pre-processed float32 `images` `(N, channels, height, width)`."""
        with self._torch.inference_mode():
            return self._module(self._torch.from_numpy(images)).float().numpy()

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the float32 outputs for uint8 `images` `(N, height, width, channels)`, some at a time."""
        return self._predict(np.ascontiguousarray(images))
