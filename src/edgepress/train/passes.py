"""Passes of convolutions done in another way, where a short measurement says that this is faster, in BF16.

A convolution has three passes: `o` its outputs, `x` the gradient of its inputs, `w` that of its weights. oneDNN's are
slow for some sizes; `train.products` and `train.depthwise` have other ways for them. All of them sum in FP32 and round
once to BF16, either way.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edgepress.train import depthwise, products
from edgepress.train.products import Way

CONVOLUTIONS = (torch.conv2d, torch.ops.aten.conv2d.default)
"""What stands for one in a network: as it is written, and in a graph that was exported for quantization."""
REPEATS = 2
SECONDS = 5.0
"""How long the measurement may take; what is left then stays as it is."""

Passes = Mapping[str, str]
"""The passes (`o`, `x`, `w`) that are done another way, by the `site` of a convolution."""


class Call(NamedTuple):
    """A call of `conv2d`. Stride, padding and dilation by height and width; the padding may be a word instead."""

    images: Tensor
    weight: Tensor
    bias: Tensor | None
    strides: tuple[int, ...]
    paddings: tuple[int, ...] | str
    dilations: tuple[int, ...]
    groups: int

    @property
    def alone(self) -> bool:
        """True where every channel is filtered alone (depthwise)."""
        return self.images.dim() == 4 and 1 < self.groups == self.images.shape[1] == self.weight.shape[0]

    @property
    def replaceable(self) -> bool:
        """True in BF16, with square steps, and all channels together or each alone: there are other ways for these."""
        if self.images.dim() != 4 or not torch.is_autocast_enabled(self.images.device.type):
            return False
        if isinstance(self.paddings, str) or len({*self.dilations, 1}) > 1 or not (self.groups == 1 or self.alone):
            return False
        return len(set(self.strides)) == len(set(self.paddings)) == 1

    @property
    def stride(self) -> int:
        return self.strides[0]

    @property
    def padding(self) -> int:
        assert not isinstance(self.paddings, str)
        return self.paddings[0]

    @property
    def site(self) -> str:
        return site(self.images, self.weight, self.stride, self.padding)

    @property
    def work(self) -> int:
        return self.images.shape[2] * self.images.shape[3] * self.weight.numel() // self.stride**2

    def others(self) -> dict[str, Way]:
        """The other ways there are."""
        kernel = self.weight.shape[2], self.weight.shape[3]
        if self.alone:
            return depthwise.ways(kernel, self.stride, self.padding)
        return products.ways(self.stride, self.padding)

    def usual(self) -> dict[str, Way]:
        """PyTorch's ways."""
        stride, padding, groups = self.stride, self.padding, self.groups

        def back(grad: Tensor, x: Tensor, w: Tensor, which: int) -> Tensor:
            mask = [which == 0, which == 1, False]
            return torch.ops.aten.convolution_backward(
                grad, x, w, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, mask
            )[which]

        return {
            "o": lambda _, x, w: functional.conv2d(x, w, None, stride, padding, 1, groups),
            "x": lambda grad, x, w: back(grad, x, w, 0),
            "w": lambda grad, x, w: back(grad, x, w, 1),
        }


def site(images: Tensor, weight: Tensor, stride: int, padding: int) -> str:
    """Return the name of a convolution by its sizes: what decides how fast each way is."""
    return "x".join(map(str, (*images.shape[1:], *weight.shape, stride, padding)))


class OtherPasses(TorchFunctionMode):
    """Within the block, the convolutions named in `passes` do those another way, in BF16."""

    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self._passes = passes

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, or the convolution it stands for in another way."""
        call = _call(*args, **(kwargs or {})) if func in CONVOLUTIONS else None
        passes = self._passes.get(call.site) if call and call.replaceable else None
        if not call or not passes:
            return func(*args, **(kwargs or {}))
        ways = {**call.usual(), **{key: way for key, way in call.others().items() if key in passes}}
        outputs = _Convolution.apply(call.images.to(torch.bfloat16), call.weight.to(torch.bfloat16), ways)
        return outputs if call.bias is None else outputs + call.bias.to(torch.bfloat16)[:, None, None]


@contextlib.contextmanager
def other_passes(passes: Passes) -> Iterator[None]:
    """Run the block with these passes done another way; with none, nothing is intercepted."""
    with OtherPasses(passes) if passes else contextlib.nullcontext():
        yield


class _Watch(TorchFunctionMode):
    """Shows `seen` the convolutions of the block, with their outputs."""

    def __init__(self, seen: Callable[[Call, Tensor], None]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if func in CONVOLUTIONS:
            self._seen(_call(*args, **(kwargs or {})), outputs)
        return outputs


def convolutions(forward: Callable[[], Tensor]) -> list[Call]:
    """Return the convolutions of `forward`, however they are written, their tensors without values (`meta`)."""
    found: list[Call] = []

    def seen(call: Call, outputs: Tensor) -> None:
        found.append(call._replace(images=call.images.to("meta"), weight=call.weight.to("meta"), bias=None))

    with _Watch(seen), torch.no_grad():
        forward()
    return found


def faster(forward: Callable[[], Tensor], passes: str = "owx") -> dict[str, str]:
    """Return the convolutions of `forward`, run in BF16, that are faster another way, with those of the `passes`."""
    found: dict[str, Call] = {}

    def seen(call: Call, outputs: Tensor) -> None:
        if call.replaceable and (call.alone or products.promising(call.weight, outputs)):
            found.setdefault(call.site, call)

    with _Watch(seen):
        forward()
    chosen: dict[str, str] = {}
    end = time.perf_counter() + SECONDS
    for name, call in sorted(found.items(), key=lambda item: item[1].work, reverse=True):
        if time.perf_counter() > end:
            break
        x = call.images.detach().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        w = call.weight.detach().to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        if others := _faster_passes(call._replace(images=x, weight=w), passes):
            chosen[name] = others
    return chosen


def _faster_passes(call: Call, passes: str) -> str:
    x, w, usual = call.images, call.weight, call.usual()
    wanted = {name: way for name, way in call.others().items() if name in passes}
    if not wanted:
        return ""
    grad = torch.ones_like(usual["o"](x, x, w))

    def seconds(way: Way) -> float:
        return _seconds(lambda: way(grad, x, w))

    return "".join(name for name, way in wanted.items() if seconds(way) < 0.9 * seconds(usual[name]))


def _seconds(run: Callable[[], Tensor]) -> float:
    run()
    times: list[float] = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def _call(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call:
    words = padding if isinstance(padding, str) else _pair(padding)
    return Call(input, weight, bias, _pair(stride), words, _pair(dilation), groups)


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


class _Convolution(torch.autograd.Function):
    """`conv2d` without bias, each pass done by one of the `ways`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, ways: Mapping[str, Way]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x, w)
        ctx.ways = ways
        return ways["o"](x, x, w).data  # no view, or an operation in place after it would be refused

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = ctx.ways["x"](grad, x, w) if ctx.needs_input_grad[0] else None
        dw = ctx.ways["w"](grad, x, w) if ctx.needs_input_grad[1] else None
        return dx, dw, None
