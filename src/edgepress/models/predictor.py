"""A `Model` as a `Predictor`: the same call that an exported program answers."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgepress.core.artifact import Model, Signature
from edgepress.core.errors import EdgepressError
from edgepress.models.inputs import normalize

MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError, KeyError)
"""What a network may raise where an edit has left parts that do not fit together."""


class TorchPredictor:
    """Runs `model` on uint8 images in evaluation mode, up to `batch` at a time, on the device its weights are on.

    `compute` is another way to compute its module: the same from normalized images to outputs.
    """

    def __init__(self, model: Model, batch: int = 256, compute: Callable[[torch.Tensor], object] | None = None) -> None:
        self._model, self._batch = model, model.signature.input.at_once(batch)
        self._compute = compute or model.module

    @property
    def signature(self) -> Signature:
        """What the network takes and gives."""
        return self._model.signature

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(N, height, width, channels)` to float32 outputs; raise `EdgepressError` on a wrong shape."""
        channels, height, width = self.signature.input.shape
        if images.ndim != 4 or images.shape[1:] != (height, width, channels) or images.dtype != np.uint8:
            raise EdgepressError(
                f"expected uint8 images of shape (N, {height}, {width}, {channels}), got {images.dtype} {images.shape}"
            )
        module = self._model.module
        device = _device(module)
        with evaluating(module), torch.inference_mode():
            # A loop over zero images would leave nothing to take the output's shape from.
            parts = [
                self._outputs(images[start : start + self._batch], device)
                for start in range(0, max(len(images), 1), self._batch)
            ]
        return np.concatenate(parts)

    def _outputs(self, images: NDArray[np.uint8], device: torch.device) -> NDArray[np.float32]:
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
        outputs = self._compute(normalize(batch, self.signature.input))
        if not isinstance(outputs, torch.Tensor):
            raise EdgepressError(
                f"{self._model.builder.name} returned a {type(outputs).__name__}; "
                "a network here returns one tensor: wrap it in a module that picks its main output"
            )
        return outputs.float().cpu().numpy()


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put `module` into evaluation mode for the block; afterwards every submodule is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _device(module: nn.Module) -> torch.device:
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device
