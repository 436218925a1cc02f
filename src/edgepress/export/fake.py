"""Fake quantization: rounding to integers and back in floating point, as an operation that autograd and export know.

The backward pass is the straight-through estimator for the input (Bengio et al. 2013) with the learned step size of LSQ
(Esser et al. 2020) and the learned offset of LSQ+ (Bhalgat et al. 2020), so that the same operation serves
calibration and training. While a step size is learned, plain tensor operations take the place of the kernel.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

aten = torch.ops.aten

TINY = 1e-12


@dataclass(frozen=True)
class Scheme:
    """How a tensor is held: `bits` wide, `signed` around 0 (then without the lowest code, so that -x is exact) or
    unsigned with a zero point; `axis` of the channels that each have their own scale, None for one scale."""

    bits: int = 8
    signed: bool = False
    axis: int | None = None

    @property
    def qmin(self) -> int:
        """Lowest code."""
        return 1 - 2 ** (self.bits - 1) if self.signed else 0

    @property
    def qmax(self) -> int:
        """Highest code."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    def parameters(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and zero point (float32) that cover `[low, high]`; 0 is always represented exactly."""
        low, high = low.double().clamp(max=0), high.double().clamp(min=0)
        if self.signed:
            scale = (torch.maximum(-low, high) / self.qmax).clamp(min=TINY)
            return scale.float(), torch.zeros_like(scale).float()
        scale = ((high - low) / (self.qmax - self.qmin)).clamp(min=TINY)
        zero_point = (self.qmin - low / scale).round().clamp(self.qmin, self.qmax)
        return scale.float(), zero_point.float()


@torch.library.custom_op("edgepress::fake_quantize", mutates_args=())
def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
    """Return `x` rounded to `scale * (q - zero_point)`, `q` an integer in `[qmin, qmax]`.

    `scale` and `zero_point` are float32, of one element (`axis` -1) or one per index of `x` along `axis`.
    """
    if axis < 0:
        return torch.fake_quantize_per_tensor_affine(x, scale.reshape(()), _codes(zero_point).reshape(()), qmin, qmax)
    return torch.fake_quantize_per_channel_affine(x, scale, _codes(zero_point), axis, qmin, qmax)


@fake_quantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, qmin: int, qmax: int) -> Tensor:
    return torch.empty_like(x)


def _codes(zero_point: Tensor) -> Tensor:
    return zero_point.round().to(torch.int32)


def _setup(ctx, inputs, output) -> None:
    x, scale, zero_point, axis, qmin, qmax = inputs
    ctx.save_for_backward(x, scale, zero_point)
    ctx.axis, ctx.qmin, ctx.qmax = axis, qmin, qmax


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, scale, zero_point = ctx.saved_tensors
    shape = [1] * x.dim()
    if ctx.axis >= 0:
        shape[ctx.axis] = -1
    step, offset = scale.reshape(shape), zero_point.round().reshape(shape)
    position = x / step + offset
    code = position.round()
    inside = (code >= ctx.qmin) & (code <= ctx.qmax)
    grad_x = grad * inside if ctx.needs_input_grad[0] else None
    grad_scale = grad_zero = None
    if ctx.needs_input_grad[1]:
        clamped = code.clamp(ctx.qmin, ctx.qmax)
        slope = torch.where(inside, clamped - position, clamped - offset)
        grad_scale = (grad * slope).sum_to_size(step.shape).reshape(scale.shape)
    if ctx.needs_input_grad[2]:
        grad_zero = (grad * ~inside * -step).sum_to_size(offset.shape).reshape(zero_point.shape)
    return grad_x, grad_scale, grad_zero, None, None, None


fake_quantize.register_autograd(_backward, setup_context=_setup)


class _Rounding(torch.autograd.Function):
    """The same rounding with the same gradients as the operation above, in a third of its time on a CPU.

    The gradient of the step size is the sum of `grad * (code - position)` inside the range and of `grad * code`
    outside, which is `(grad . y - grad_x . x) / scale`: products of tensors that are there anyway.
    """

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
        y = (x * scale.reciprocal()).clamp_(low, high).round_().mul_(scale)
        ctx.save_for_backward(x, scale, y)
        ctx.low, ctx.high = low, high
        return y

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, scale, y = ctx.saved_tensors
        if scale.numel() == 1:
            step = float(scale)
            grad_x = aten.hardtanh_backward(grad, x, (ctx.low - 0.5) * step, (ctx.high + 0.5) * step)
            slope = torch.dot(*_flat(grad, y)) - torch.dot(*_flat(grad_x, x))
        else:
            inside = (x > (ctx.low - 0.5) * scale) & (x < (ctx.high + 0.5) * scale)
            grad_x = grad * inside
            slope = (grad * y - grad_x * x).float().sum_to_size(scale.shape)
        return grad_x, (slope.reshape(scale.shape).float() / scale.float()).to(scale.dtype), None, None


def _rounded(x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
    result = _Rounding.apply(x, scale, low, high)
    assert isinstance(result, Tensor)
    return result


def _flat(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as vectors in the order in which `b` lies in memory."""
    order = sorted(range(b.dim()), key=b.stride, reverse=True)
    return a.permute(order).reshape(-1), b.permute(order).reshape(-1)


class Observer(Protocol):
    """Looks at the values that pass a quantizer while it is being calibrated."""

    def update(self, x: Tensor) -> None:
        """Take in one batch of values."""
        ...


class Quantizer(nn.Module):
    """Rounds what passes through it as `scheme` says, once `enabled`; before that it only shows it to `observer`.

    After `learn` its scale is a parameter, whose gradient is scaled by `1 / sqrt(values per scale * highest code)`
    (LSQ, section 2.2), so that one learning rate serves weights and step sizes; zero points stay. With `rounded` below
    1 only that share of a weight, drawn anew at every step of a training, is rounded (Quant-Noise, Fan et al. 2021).
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scheme: Scheme, channels: int = 1) -> None:
        super().__init__()
        self.scheme = scheme
        self.enabled = True
        self.learned = False
        self.rounded = 1.0
        self.observer: Observer | None = None
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("zero_point", torch.zeros(channels))

    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Cover the values from `low` to `high` (one of each, or one per channel)."""
        scale, zero_point = self.scheme.parameters(low, high)
        with torch.no_grad():
            self.scale.copy_(scale)
            self.zero_point.copy_(zero_point)

    @property
    def odd(self) -> bool:
        """True where the codes learned are -3, -1, 1 and 3: those of weights of 2 bits."""
        return self.scheme.bits == 2 and self.scheme.signed

    def learn(self, learned: bool = True) -> None:
        """Make the scale a parameter, or a buffer again."""
        scale = self.scale.detach().abs().clamp(min=TINY)
        del self.scale
        if learned:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)
        self.learned = learned

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, rounded where enabled."""
        if self.observer is not None:
            self.observer.update(x)
        if not self.enabled:
            return x
        if self.learned:
            return self._round_and_learn(x)
        axis = -1 if self.scheme.axis is None else self.scheme.axis
        scheme = self.scheme
        return fake_quantize(x, self.scale, self.zero_point, axis, scheme.qmin, scheme.qmax)

    def _round_and_learn(self, x: Tensor) -> Tensor:
        scheme = self.scheme
        shape = [1] * x.dim()
        if scheme.axis is not None:
            shape[scheme.axis] = -1
        values = x.numel() / self.scale.numel() if scheme.axis is not None else x[0].numel()
        share = (values * scheme.qmax) ** -0.5
        scale = self.scale.abs().clamp(min=TINY)
        scale = (scale * share + (scale * (1 - share)).detach()).to(x.dtype)
        if scheme.axis is None:
            zero = float(self.zero_point.round())
            return _rounded(x, scale.reshape(()), scheme.qmin - zero, scheme.qmax - zero)
        scale = scale.reshape(shape)
        if self.odd:
            result = _rounded(x - scale, 2 * scale, -2, 1) + scale
        else:  # one scale per channel goes with a zero point of 0
            result = _rounded(x, scale, scheme.qmin, scheme.qmax)
        if self.rounded < 1 and self.training:
            result = torch.where(torch.rand_like(x) < self.rounded, result, x)
        return result

    def extra_repr(self) -> str:
        """Show the scheme."""
        return str(self.scheme)
