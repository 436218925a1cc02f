"""The gradients of depthwise convolutions without oneDNN's slow kernels for them, in BF16.

One core of a Xeon with AMX, batch 128: the gradient of the inputs of 96 channels of 16x16 pixels, 3x3, stride 2, takes
288 ms, and both gradients of 480 channels of 2x2 pixels 110, where their outputs take 2 and 1. The outputs are fast
everywhere, so the gradient of the inputs becomes one convolution more: that of the gradient, with zeros between its
pixels where there was a stride, by the kernel turned around.
"""

import torch
from torch import Tensor
from torch.nn import functional

from edgepress.train.products import Way


def ways(kernel: tuple[int, int], stride: int, padding: int) -> dict[str, Way]:
    """Return the other ways there are: `x`, where not more is padded than the kernel reaches over, and `w`."""
    found: dict[str, Way] = {"w": lambda grad, x, w: _weights(grad, x, w, stride, padding)}
    if padding < min(kernel):
        found["x"] = lambda grad, x, w: _inputs(grad, x, w, stride, padding)
    return found


def _inputs(grad: Tensor, x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    before = w.shape[2] - 1 - padding, w.shape[3] - 1 - padding
    turned = w.flip(2, 3)
    if stride == 1:
        return functional.conv2d(grad, turned, None, 1, before, 1, x.shape[1])
    size = x.shape[2] + w.shape[2] - 1, x.shape[3] + w.shape[3] - 1
    spread = torch.empty(
        (*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    ).zero_()
    _seen(spread[:, :, before[0] :, before[1] :], grad, stride).copy_(grad)
    return functional.conv2d(spread, turned, None, 1, 0, 1, x.shape[1])


def _weights(grad: Tensor, x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    """Return one sum of products a tap of the kernel."""
    pixels, grad = functional.pad(x, [padding] * 4).float(), grad.float()
    taps = [
        (_seen(pixels[:, :, row:, column:], grad, stride) * grad).sum((0, 2, 3))
        for row in range(w.shape[2])
        for column in range(w.shape[3])
    ]
    return torch.stack(taps, 1).view(w.shape).to(w.dtype)


def _seen(pixels: Tensor, grad: Tensor, stride: int) -> Tensor:
    """Return the pixels, from the first one on, that one tap of the kernel meets at each output of `grad`."""
    rows, columns = ((size - 1) * stride + 1 for size in grad.shape[2:])
    return pixels[:, :, :rows:stride, :columns:stride]
