"""Convolutions over few pixels as one matrix product each.

oneDNN's convolutions in BF16 work on rows of pixels. On a processor with matrix units (AMX) a row of four or two leaves
most of a tile empty: 512 channels of 4x4 pixels, batch 128, run at 165 GFLOP/s and their weight gradient at 57, one
core. Laid out as columns (Chellapilla et al., "High performance convolutional neural networks for document processing",
2006) the same sums are one product of matrices, at 450 GFLOP/s.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

PIXELS = 64
"""Above so many output pixels an image, columns are too much to copy."""
CHANNELS = 64
"""Below so many channels on a side, the copying costs more than the product saves."""

Way = Callable[[Tensor, Tensor, Tensor], Tensor]
"""One pass: of the gradient of the outputs (anything for `o`), the inputs and the weights."""


def promising(weight: Tensor, outputs: Tensor) -> bool:
    """Return whether it is worth a measurement."""
    return min(weight.shape[:2]) >= CHANNELS and outputs.shape[2] * outputs.shape[3] <= PIXELS


def ways(stride: int, padding: int) -> dict[str, Way]:
    """Return the passes that can be products: `x`, the gradient of the inputs, at stride 1 only."""
    found: dict[str, Way] = {
        "o": lambda _, x, w: _outputs(x, w, stride, padding),
        "w": lambda grad, x, w: _weights(grad, x, w, stride, padding),
    }
    if stride == 1:
        found["x"] = lambda grad, _, w: _inputs(grad, w, padding)
    return found


def _columns(x: Tensor, kernel: tuple[int, int], stride: int, padding: int) -> Tensor:
    """Return what each output pixel sees of `x` `(N, C, H, W)` as a row: `(N, H', W', kernel height * width * C)`."""
    pixels = functional.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    n, height, width, channels = pixels.shape
    pixels = pixels.contiguous()
    rows, columns = (height - kernel[0]) // stride + 1, (width - kernel[1]) // stride + 1
    a, b, c, _ = pixels.stride()
    seen = pixels.as_strided(
        (n, rows, columns, kernel[0], kernel[1] * channels), (a, b * stride, c * stride, b, 1), pixels.storage_offset()
    )
    return seen.reshape(n, rows, columns, -1)


def _outputs(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    seen = _columns(x, (w.shape[2], w.shape[3]), stride, padding)
    return (seen @ w.permute(2, 3, 1, 0).reshape(-1, w.shape[0])).permute(0, 3, 1, 2)


def _inputs(grad: Tensor, w: Tensor, padding: int) -> Tensor:
    """Return the gradient of the inputs of a convolution of stride 1: itself one, with its kernel turned around."""
    turned = w.flip(2, 3).transpose(0, 1)
    return _outputs(_widened(grad, w.shape[2] - 1 - padding, w.shape[3] - 1 - padding), turned, 1, 0)


def _widened(grad: Tensor, rows: int, columns: int) -> Tensor:
    return functional.pad(grad, (columns, columns, rows, rows)).contiguous(memory_format=torch.channels_last)


def _weights(grad: Tensor, x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    rows, columns = w.shape[2], w.shape[3]
    seen = _columns(x, (rows, columns), stride, padding).flatten(0, 2)
    found = grad.permute(0, 2, 3, 1).flatten(0, 2).t() @ seen
    return found.view(w.shape[0], rows, columns, w.shape[1]).permute(0, 3, 1, 2)
