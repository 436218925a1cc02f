"""From 8-bit images to what a network takes, on the device the images are on."""

import torch
from torch import Tensor

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
