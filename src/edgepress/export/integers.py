"""A quantized network as integer kernels compute it: sums of products of codes, one multiplication, one rounding.

With roundings in floating point (`export.fake`) a sum that lies a millionth from half a step may be rounded to the
other side, and every further rounding spreads it: in a network of fifty roundings a fifth of the codes end up one step
apart, and two exact ways to compute it decide differently for one image in fifteen. Here the sums are integers, held
in floating point without an error, and the factor behind them is the float32 number that ONNX Runtime and XNNPACK take
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from edgepress.core.artifact import Model
from edgepress.export.fake import Quantizer
from edgepress.models.predictor import TorchPredictor

aten = torch.ops.aten

EXACT = 2**24
"""Integers up to here are float32 numbers, and so are the sums of such, in any order."""


@dataclass(frozen=True)
class Codes:
    """Numbers `codes * scale`: whole numbers in float32, the zero point taken off; `scale` fits for broadcasting."""

    codes: Tensor
    scale: Tensor
    zero: float = 0.0

    def real(self) -> Tensor:
        """Return the numbers themselves."""
        return self.codes * self.scale


@dataclass(frozen=True)
class Sums:
    """Numbers `whole * unit` that are not rounded yet; `floor` says that a ReLU follows, `inside` that ONNX Runtime
    rounds with the zero point inside, as it does where codes are multiplied with codes."""

    whole: Tensor
    unit: Tensor
    floor: bool = False
    inside: bool = False

    def steps(self, scale: Tensor, zero: float) -> Tensor:
        """Return the numbers in steps of `scale`, to be rounded."""
        steps = self.whole.float() * (self.unit / scale)
        if self.inside:
            steps = (steps + zero).round() - zero
        return steps.clamp(min=0) if self.floor else steps

    def real(self) -> Tensor:
        """Return the numbers themselves."""
        return self.steps(torch.ones(()), 0.0)


@dataclass(frozen=True)
class Added:
    """The sum of two numbers that is not rounded yet; `floor` says that a ReLU follows."""

    one: Codes
    other: Codes
    floor: bool = False

    def steps(self, scale: Tensor, zero: float) -> Tensor:
        """Return the sum in steps of `scale`, rounded as ONNX Runtime does: with all zero points inside.

        One of the 65,536 pairs of codes may lie so near half a step that the order of the operations decides; where
        that pair is a common one, a deep network answers differently behind it.
        """
        ours, theirs = self.one.scale / scale, self.other.scale / scale
        offset = zero - _multiply_add(ours, torch.tensor(self.one.zero), theirs * self.other.zero)
        total = _multiply_add(self.other.codes + self.other.zero, theirs, offset)
        total = _multiply_add(self.one.codes + self.one.zero, ours, total)
        return (total.clamp(min=zero) if self.floor else total).round() - zero

    def real(self) -> Tensor:
        """Return the numbers themselves."""
        total = self.one.real() + self.other.real()
        return total.clamp(min=0) if self.floor else total


def _multiply_add(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return `x * y + z` in float32, rounded once."""
    return (x.double() * y.double() + z.double()).float()


Unrounded = Sums | Added


class Integers(fx.Interpreter):
    """Runs the graph of a quantized network; what has no integer kernel in floating point, as engines do."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self._weights: dict[str, Codes] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Round, or call any other module with the numbers themselves."""
        part = self.fetch_attr(target)
        if isinstance(part, Quantizer) and part.enabled:
            return self._rounded(target, part, args[0])
        return super().call_module(target, _real(args), _real(kwargs))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute with codes where there is a way, else with the numbers themselves."""
        found = KERNELS[target](*args, **kwargs) if target in KERNELS else None
        return super().call_function(target, _real(args), _real(kwargs)) if found is None else found

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute with the numbers themselves."""
        return super().call_method(target, _real(args), _real(kwargs))

    def output(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the numbers themselves."""
        return super().output(target, _real(args), kwargs)

    def _rounded(self, name: str, part: Quantizer, x: Any) -> Codes:
        scheme, axis = part.scheme, part.scheme.axis
        if axis is not None:  # a weight: the same at every call
            if name not in self._weights:
                scale = part.scale.detach().reshape([-1 if k == axis else 1 for k in range(x.dim())])
                self._weights[name] = Codes((part(x) / scale).round(), scale)
            return self._weights[name]
        scale, zero = part.scale.detach().reshape(()), float(part.zero_point.round())
        if isinstance(x, Codes) and x.scale.shape == scale.shape and torch.equal(x.scale, scale):
            steps = x.codes
        else:
            steps = x.steps(scale, zero) if isinstance(x, Unrounded) else _real(x) / scale
        return Codes(steps.round().clamp(scheme.qmin - zero, scheme.qmax - zero), scale, zero)


def predictor(model: Model, batch: int = 256) -> TorchPredictor:
    """Return what `model` answers: a quantized network as integer kernels compute it, any other as PyTorch does."""
    module = model.module
    whole = isinstance(module, fx.GraphModule) and any(isinstance(part, Quantizer) for part in module.modules())
    return TorchPredictor(model, batch, Integers(module).run if whole else None)  # pyright: ignore[reportArgumentType]


def _real(value: Any) -> Any:
    if isinstance(value, Codes | Unrounded):
        return value.real()
    if isinstance(value, tuple | list):
        return type(value)(_real(one) for one in value)
    return {name: _real(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _product(compute: Callable[..., Tensor], x: Any, weight: Any, bias: Tensor | None, *more: Any) -> Sums | None:
    """Return a layer's sums of products, its bias in their unit."""
    if not isinstance(x, Codes) or not isinstance(weight, Codes) or x.scale.dim():
        return None
    most = float(weight.codes.abs().flatten(1).sum(1).max() * x.codes.abs().max())
    kind = torch.float32 if most < EXACT else torch.float64
    total = compute(x.codes.to(kind), weight.codes.to(kind), None, *more)
    unit = (x.scale * weight.scale.flatten()).reshape(-1, *[1] * (total.dim() - 2))
    if bias is not None:
        total = total + (bias.reshape(unit.shape) / unit).round()
    return Sums(total, unit)


def _add(x: Any, y: Any, **more: Any) -> Added | None:
    if not isinstance(x, Codes) or not isinstance(y, Codes) or more.get("alpha", 1) != 1:
        return None
    return Added(x, y)


def _multiply(x: Any, y: Any) -> Sums | None:
    if not isinstance(x, Codes) or not isinstance(y, Codes) or x.scale.dim() or y.scale.dim():
        return None
    return Sums(x.codes * y.codes, x.scale * y.scale, inside=True)


def _relu(x: Any) -> Codes | Unrounded | None:
    if isinstance(x, Unrounded):
        return replace(x, floor=True)
    return replace(x, codes=x.codes.clamp(min=0)) if isinstance(x, Codes) else None


def _mean(x: Any, dims: Any) -> Sums | None:
    """Return the mean over height and width, which is a sum in a smaller unit."""
    if not isinstance(x, Codes) or x.scale.dim() or x.codes.dim() != 4 or sorted(d % 4 for d in dims) != [2, 3]:
        return None
    return Sums(x.codes.sum((2, 3), keepdim=True), x.scale / (x.codes.shape[2] * x.codes.shape[3]))


def _pooled(x: Any, size: Any) -> Sums | None:
    return _mean(x, (2, 3)) if list(size) == [1, 1] else None


def _mean_dim(x: Any, dims: Any, keepdim: bool = False, **more: Any) -> Sums | None:
    found = _mean(x, dims) if dims is not None else None
    if found is None or keepdim:
        return found
    return replace(found, whole=found.whole.flatten(1))


def _moved(compute: Callable[..., Tensor]) -> Callable[..., Codes | None]:
    def move(x: Any, *args: Any, **more: Any) -> Codes | None:
        return replace(x, codes=compute(x.codes, *args, **more)) if isinstance(x, Codes) and not x.scale.dim() else None

    return move


KERNELS: dict[Any, Callable[..., Any]] = {
    aten.conv2d.default: lambda x, w, b=None, *more: _product(F.conv2d, x, w, b, *more),
    aten.linear.default: lambda x, w, b=None: _product(F.linear, x, w, b),
    aten.add.Tensor: _add,
    aten.mul.Tensor: _multiply,
    aten.relu.default: _relu,
    aten.relu_.default: _relu,
    aten.adaptive_avg_pool2d.default: _pooled,
    aten.mean.dim: _mean_dim,
    **{
        op: _moved(op)
        for op in (
            aten.max_pool2d.default, aten.flatten.using_ints, aten.view.default, aten.reshape.default,
            aten.permute.default, aten.slice.Tensor,
        )
    },
}  # fmt: skip
"""What is computed with codes, by the operation of the graph; None from one of these: with the numbers themselves."""
