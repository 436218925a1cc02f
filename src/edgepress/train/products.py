"""Convolutions over few pixels as one matrix product each, where a short measurement says that this is faster.

oneDNN's convolutions in BF16 work on rows of pixels. On a processor with matrix units (AMX) a row of four or two leaves
most of a tile empty: 512 channels of 4x4 pixels, batch 128, run at 165 GFLOP/s and their weight gradient at 57, one
core. Laid out as columns (Chellapilla et al., "High performance convolutional neural networks for document processing",
2006) the same sums are one product of matrices, at 450 GFLOP/s.

A convolution has three passes, and each may be done either way: `o` its outputs, `x` the gradient of its inputs, `w`
that of its weights. All of them sum in FP32 and round once to BF16, either way.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

PIXELS = 64
"""Above so many output pixels an image, columns are too much to copy."""
CHANNELS = 64
"""Below so many channels on a side, the copying costs more than the product saves."""
REPEATS = 2
SECONDS = 5.0
"""How long the measurement may take; what is left then stays as it is."""

Products = Mapping[str, str]
"""The passes (`o`, `x`, `w`) that are matrix products, by the `site` of a convolution."""


def site(images: Tensor, weight: Tensor, stride: int, padding: int) -> str:
    """Return the name of a convolution by its sizes: what decides how fast either way is."""
    return "x".join(map(str, (*images.shape[1:], *weight.shape, stride, padding)))


class MatrixProducts(TorchFunctionMode):
    """Within the block, the convolutions named in `products` do those passes as matrix products, in BF16."""

    def __init__(self, products: Products) -> None:
        super().__init__()
        self._products = products

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, or the convolution it stands for in another way."""
        if func is torch.conv2d:
            found = _plain(*args, **(kwargs or {}))
            if found and (passes := self._products.get(site(*found[:2], *found[3:]))):
                images, weight, bias, stride, padding = found
                outputs = _Convolution.apply(
                    images.to(torch.bfloat16), weight.to(torch.bfloat16), stride, padding, passes
                )
                return outputs if bias is None else outputs + bias.to(torch.bfloat16)[:, None, None]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def matrix_products(products: Products) -> Iterator[None]:
    """Run the block with these convolutions as matrix products; with none, nothing is intercepted."""
    with MatrixProducts(products) if products else contextlib.nullcontext():
        yield


class _Recorder(TorchFunctionMode):
    """Keeps the convolutions of the block that may be faster as products."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[Tensor, Tensor, int, int]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if func is torch.conv2d and (plain := _plain(*args, **(kwargs or {}))):
            images, weight, _, stride, padding = plain
            if min(weight.shape[:2]) >= CHANNELS and outputs.shape[2] * outputs.shape[3] <= PIXELS:
                self.found.setdefault(site(images, weight, stride, padding), (images, weight, stride, padding))
        return outputs


def faster(forward: Callable[[], Tensor], passes: str = "owx") -> dict[str, str]:
    """Return the convolutions of `forward`, run in BF16, that are faster as products, with those of the `passes`."""
    with _Recorder() as recorder:
        forward()
    chosen: dict[str, str] = {}
    end = time.perf_counter() + SECONDS
    for name, (images, weight, stride, padding) in sorted(recorder.found.items(), key=_work, reverse=True):
        if time.perf_counter() > end:
            break
        x = images.detach().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        w = weight.detach().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        if found := _faster_passes(x, w, stride, padding, passes):
            chosen[name] = found
    return chosen


def _work(item: tuple[str, tuple[Tensor, Tensor, int, int]]) -> int:
    _, (images, weight, stride, _) = item
    return images.shape[2] * images.shape[3] * weight.numel() // stride**2


def _faster_passes(x: Tensor, w: Tensor, stride: int, padding: int, passes: str) -> str:
    y = functional.conv2d(x, w, None, stride, padding)
    grad = torch.ones_like(y)
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
        "o": (lambda: functional.conv2d(x, w, None, stride, padding), lambda: _outputs(x, w, stride, padding)),
        "w": (lambda: _back(grad, x, w, stride, padding, 1), lambda: _weights(grad, x, w, stride, padding)),
    }
    if stride == 1:
        pairs["x"] = (lambda: _back(grad, x, w, stride, padding, 0), lambda: _inputs(grad, w, padding))
    wanted = {name: pair for name, pair in pairs.items() if name in passes}
    return "".join(name for name, (usual, product) in wanted.items() if _seconds(product) < 0.9 * _seconds(usual))


def _seconds(run: Callable[[], Tensor]) -> float:
    run()
    times: list[float] = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def _plain(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, int, int] | None:
    """Return a call of `conv2d` where it is a plain one in BF16: square steps, all channels together; else `None`."""
    if groups != 1 or images.dim() != 4 or not torch.is_autocast_enabled(images.device.type):
        return None
    sizes = [(value, value) if isinstance(value, int) else tuple(value) for value in (stride, padding, dilation)]
    if any(len(size) != 2 or size[0] != size[1] or isinstance(size[0], str) for size in sizes) or sizes[2] != (1, 1):
        return None
    return images, weight, bias, sizes[0][0], sizes[1][0]


class _Convolution(torch.autograd.Function):
    """`conv2d` without bias whose `passes` are matrix products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, stride: int, padding: int, passes: str) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x, w)
        ctx.how = stride, padding, passes
        run = _outputs if "o" in passes else _usual
        return run(x, w, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w = ctx.saved_tensors
        stride, padding, passes = ctx.how
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _inputs(grad, w, padding) if "x" in passes else _back(grad, x, w, stride, padding, 0)
        if ctx.needs_input_grad[1]:
            run = _weights if "w" in passes else _usual_weights
            dw = run(grad, x, w, stride, padding)
        return dx, dw, None, None, None


def _usual(x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    return functional.conv2d(x, w, None, stride, padding)


def _usual_weights(grad: Tensor, x: Tensor, w: Tensor, stride: int, padding: int) -> Tensor:
    return _back(grad, x, w, stride, padding, 1)


def _back(grad: Tensor, x: Tensor, w: Tensor, stride: int, padding: int, which: int) -> Tensor:
    """Return the gradient of the inputs (0) or of the weights (1) as PyTorch computes it."""
    mask = [which == 0, which == 1, False]
    found = torch.ops.aten.convolution_backward(
        grad, x, w, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask
    )
    return found[which]


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
