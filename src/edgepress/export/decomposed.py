"""A quantized network in PyTorch's own quantize/dequantize operations, which ExecuTorch and LiteRT turn into integers.

Their kernels hold activations as int8. Ours are uint8: the same steps with every code and zero point 128 lower, so the
values are the same to the bit. Weights are stored as int8 codes already, rounded as the ONNX exporter rounds them.
"""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from edgepress.core.artifact import Model
from edgepress.core.errors import EdgepressError
from edgepress.export.fake import Quantizer
from edgepress.export.graph import aten, parameter_of, trace

SHIFT = 128
CLAMPS = (aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.clamp.default)

Weights = Literal["codes", "pairs"]
"""How a weight is written: as int8 codes and a dequantization (ExecuTorch), or in float between a quantization and a
dequantization that the converter folds (LiteRT)."""


def portable(model: Model, weights: Weights = "codes") -> nn.Module:
    """Return a copy of the network on the CPU, in evaluation mode, with no operation of edgepress in it.

    Batch norms are folded. Every quantizer becomes a pair of `quantized_decomposed` operations. With `weights` "codes",
    a layer whose result is not rounded (the last one, as a rule) keeps float weights, of the same rounded values: such
    integer kernels want an integer result. Raises `EdgepressError` for bit widths other than 8.
    """
    module = copy.deepcopy(model.module).cpu().float().eval()
    quantizers = [name for name, part in module.named_modules() if isinstance(part, Quantizer)]
    if not quantizers:
        return trace(module, model.signature, for_integers=False).eval()
    _register()
    for name in quantizers:
        quantizer = module.get_submodule(name)
        assert isinstance(quantizer, Quantizer)
        if quantizer.scheme.bits != 8:
            raise EdgepressError(f"{name} holds {quantizer.scheme.bits} bits; this format has integers of 8 bits only")
        if quantizer.scheme.axis is None:
            module.set_submodule(name, _Rounded(quantizer))
    _store_weights(module, weights)
    return module.eval()


class _Rounded(nn.Module):
    """An activation rounded to int8 and back."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        shift = 0 if quantizer.scheme.signed else SHIFT
        self.scale = float(quantizer.scale.reshape(()))
        self.zero_point = round(float(quantizer.zero_point.reshape(()))) - shift
        self.low, self.high = quantizer.scheme.qmin - shift, quantizer.scheme.qmax - shift

    def forward(self, x: Tensor) -> Tensor:
        ops: Any = torch.ops.quantized_decomposed
        about = (self.scale, self.zero_point, self.low, self.high, torch.int8)
        return ops.dequantize_per_tensor.default(ops.quantize_per_tensor.default(x, *about), *about)


class _Codes(nn.Module):
    """A weight held as int8 codes with one scale per index along `axis`; its input, the float weight, falls away."""

    codes: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, codes: Tensor, scale: Tensor, axis: int, low: int, high: int) -> None:
        super().__init__()
        self.axis, self.low, self.high = axis, low, high
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.zeros(len(scale), dtype=torch.int64))

    def forward(self, weight: Tensor) -> Tensor:
        ops: Any = torch.ops.quantized_decomposed
        about = (self.scale, self.zero_point, self.axis, self.low, self.high, torch.int8)
        return ops.dequantize_per_channel.default(self.codes, *about)


class _Pair(_Codes):
    """A float weight between a quantization and a dequantization."""

    def forward(self, weight: Tensor) -> Tensor:
        ops: Any = torch.ops.quantized_decomposed
        about = (self.scale, self.zero_point, self.axis, self.low, self.high, torch.int8)
        return ops.dequantize_per_channel.default(ops.quantize_per_channel.default(weight, *about), *about)


def _store_weights(module: nn.Module, weights: Weights) -> None:
    """Put every weight, rounded, in the place of its quantizer."""
    assert isinstance(module, fx.GraphModule)
    for node in module.graph.nodes:
        quantizer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if not isinstance(quantizer, Quantizer):
            continue
        weight = parameter_of(module, node.args[0])
        if weight is None:
            raise EdgepressError(f"{node.target}: only weights that are stored can have a scale per channel")
        scheme, scale = quantizer.scheme, quantizer.scale.detach().cpu().float()
        assert scheme.axis is not None
        shape = [1] * weight.dim()
        shape[scheme.axis] = -1
        with torch.no_grad():
            codes = (weight * (1 / scale).reshape(shape)).round().clamp(scheme.qmin, scheme.qmax)
            weight.copy_(codes * scale.reshape(shape))
        made = (_Pair if weights == "pairs" else _Codes)(
            codes.to(torch.int8), scale, scheme.axis, scheme.qmin, scheme.qmax
        )
        keep = weights == "codes" and not all(_rounded(module, user) for user in node.users)
        module.set_submodule(str(node.target), nn.Identity() if keep else made)


def _rounded(module: fx.GraphModule, layer: fx.Node) -> bool:
    """Return whether all that reads the result of `layer`, behind a clamp perhaps, gets it rounded."""
    for user in layer.users:
        if user.op == "call_module" and isinstance(module.get_submodule(str(user.target)), _Rounded):
            continue
        if user.target not in CLAMPS or not _rounded(module, user):
            return False
    return bool(layer.users)


def _register() -> None:
    """Load the library of `quantized_decomposed` operations, which registers itself."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401
