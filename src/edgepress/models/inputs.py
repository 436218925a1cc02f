"""From 8-bit images to what a network takes, on the device the images are on."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepress.core.artifact import Signature
from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec


def normalize(images: Tensor, spec: InputSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return `(images / 255 - mean) / std` of images `(N, channels, H, W)`, uint8 or of that range in floating point.

    A permuted view of NHWC memory is welcome: the memory layout is kept, so it comes out channels-last. The channels
    must already be in the order of `spec.color`. Computed in float32, returned as `dtype`.
    """
    std = torch.tensor(spec.std, dtype=torch.float64)
    mean = torch.tensor(spec.mean, dtype=torch.float64)
    scale = (1 / (255 * std)).float().view(1, -1, 1, 1).to(images.device)
    shift = (-mean / std).float().view(1, -1, 1, 1).to(images.device)
    return images.to(torch.float32).mul(scale).add_(shift).to(dtype)


def to_tensor(module: nn.Module, images: NDArray[np.uint8], signature: Signature) -> Tensor:
    """Return uint8 `images` `(N, height, width, channels)` as what `module` takes, on its device."""
    channels, height, width = signature.input.shape
    if images.ndim != 4 or images.shape[1:] != (height, width, channels) or images.dtype != np.uint8:
        raise DataError(
            f"expected uint8 images of shape (N, {height}, {width}, {channels}), got {images.dtype} {images.shape}"
        )
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    return normalize(batch.contiguous(), signature.input)
