"""Learned rounding: codes that keep what a layer computes, not codes that are nearest to its weights.

Rounding each weight to its nearest code is not the best choice, for the errors of the weights of one channel add up
(AdaRound, Nagel et al. 2020). As there, each layer is reconstructed by itself, on inputs from the already quantized
network, towards the output of the floating-point one. That error is a quadratic form in the weights, with the second
moments of the inputs, so it is minimized directly: error compensation column by column (GPTQ, Frantar et al. 2022),
then coordinate descent over the codes and a closed form for the scales (as QuantEase, Behdin et al. 2023), in place of
gradient descent on a relaxation. The result is exact by construction: the weights are codes times scale.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgepress.export.fake import Quantizer
from edgepress.export.graph import aten, parameter_of
from edgepress.quantize.bias import WITH_BIAS, channel_mean, shifted

ROWS = 2**15
"""Positions of the calibration images that the moments of a layer are taken from."""

CHUNK = 64
BLOCK = 64
DAMPING = 0.01
"""Share of the mean second moment added to each: a weight whose input was never seen keeps its value."""

ROUNDOFF = 1e-5
"""Share of the mean second moment that sums in float32 may be off by: all there is where inputs are constant."""

ROUNDS = 3
SWEEPS = 4


@dataclass(frozen=True)
class Reconstruction:
    """How well a layer's output is kept by nearest and by learned codes: squared error per squared output."""

    layer: str
    nearest: float
    learned: float


@dataclass(frozen=True)
class _Layer:
    """A weighted operation with an integer weight: its parameters as the graph holds them."""

    node: fx.Node
    weight_node: fx.Node
    weight: Tensor
    quantizer: Quantizer
    bias: Tensor | None

    @property
    def groups(self) -> int:
        if self.node.target is aten.linear.default or len(self.node.args) < 7:
            return 1
        return int(self.node.args[6])  # type: ignore[arg-type]


def learn_rounding(
    graph_module: fx.GraphModule,
    inputs: Tensor,
    correct_biases: bool = True,
    told: Callable[[Reconstruction], None] = lambda _: None,
    per_tensor: bool = False,
) -> None:
    """Choose codes, scales and, where asked, biases of all layers of a calibrated network, in place.

    `inputs` pass the network once, whole, in floating point and quantized side by side. `told` hears of each layer.
    With `per_tensor` the channels of a layer go on sharing one scale.
    """
    graph_module.eval()
    with torch.no_grad():
        _SideBySide(graph_module, correct_biases, told, per_tensor).learn(inputs)


class _SideBySide(fx.Interpreter):
    """Runs the floating-point network and the quantized one node by node, and rounds each layer before it runs."""

    def __init__(
        self,
        graph_module: fx.GraphModule,
        correct_biases: bool,
        told: Callable[[Reconstruction], None],
        per_tensor: bool,
    ) -> None:
        super().__init__(graph_module)
        self.per_tensor = per_tensor
        self.graph_module, self.correct_biases, self.told = graph_module, correct_biases, told
        self.layers = {layer.node: layer for layer in layers_of(graph_module)}

    def learn(self, inputs: Tensor) -> None:
        floating: dict[fx.Node, Any] = {}
        quantized: dict[fx.Node, Any] = {}
        rounded: set[fx.Node] = set()
        for node in self.graph_module.graph.nodes:
            if node.op == "output":
                return
            if node.op == "placeholder":
                floating[node] = quantized[node] = inputs
            elif node.op == "get_attr":
                quantized[node] = self.fetch_attr(str(node.target))
                floating[node] = quantized[node].clone()
            elif (quantizer := quantizer_of(self.graph_module, node)) is not None:
                floating[node], quantized[node] = floating[node.args[0]], quantizer(quantized[node.args[0]])
            else:
                layer = self.layers.get(node)
                self.env = floating
                floating[node] = self.run_node(node)
                if layer is not None and layer.weight_node not in rounded:
                    rounded.add(layer.weight_node)
                    source = node.args[0]
                    self._round(layer, floating[source], quantized[source])
                    quantized[node.args[1]] = layer.quantizer(layer.weight)
                self.env = quantized
                quantized[node] = self.run_node(node)
                if layer is not None and layer.bias is not None and self.correct_biases:
                    expected = channel_mean(node, floating[node])
                    quantized[node] = shifted(node, layer.bias, expected, quantized[node])
            for last in self.user_to_last_uses.get(node, []):
                floating.pop(last, None)
                quantized.pop(last, None)

    def _round(self, layer: _Layer, x: Tensor, rounded: Tensor) -> None:
        centered = layer.bias is not None and self.correct_biases
        second, mixed, floor = _moments(layer, x, rounded, centered)
        outputs, size = layer.weight.shape[0], layer.weight[0].numel()
        weight = layer.weight.detach().reshape(layer.groups, outputs // layer.groups, size)
        scale = layer.quantizer.scale.reshape(layer.groups, -1, 1)
        low, high = layer.quantizer.scheme.qmin, layer.quantizer.scheme.qmax
        damping = (DAMPING * second.diagonal(dim1=1, dim2=2).mean(1)).clamp(min=0)[:, None, None] + floor
        eye = torch.eye(size)
        hessian = second + damping * eye
        target = torch.linalg.solve(hessian, weight @ mixed + damping * weight, left=False)
        nearest = (weight / scale).round().clamp(low, high)
        codes, scale = _best(target, nearest, hessian, scale, low, high, self.per_tensor)
        energy = float(((target @ hessian) * target).sum().clamp(min=1e-20))
        before = _error(nearest * layer.quantizer.scale.reshape(scale.shape) - target, hessian)
        after = _error(codes * scale - target, hessian)
        layer.quantizer.scale.copy_(scale.reshape(-1))
        layer.weight.copy_((codes * scale).reshape(layer.weight.shape))
        name = str(layer.weight_node.target).rpartition(".")[0]
        self.told(Reconstruction(name, float(before.sum()) / energy, float(after.sum()) / energy))


def layers_of(graph_module: fx.GraphModule) -> list[_Layer]:
    """Return the convolutions and linear layers whose weights pass a quantizer, in order."""
    found: list[_Layer] = []
    for node in graph_module.graph.nodes:
        if node.target not in WITH_BIAS or not isinstance(node.args[1], fx.Node):
            continue
        quantizer = quantizer_of(graph_module, node.args[1])
        if quantizer is None:
            continue
        weight_node = node.args[1].args[0]
        weight = parameter_of(graph_module, weight_node)
        bias_node = node.args[2] if len(node.args) > 2 else None
        bias = parameter_of(graph_module, bias_node)
        own = bias is not None and len(bias_node.users) == 1  # type: ignore[union-attr]
        assert weight is not None and isinstance(weight_node, fx.Node)
        found.append(_Layer(node, weight_node, weight, quantizer, bias if own else None))
    return found


def quantizer_of(graph_module: fx.GraphModule, node: Any) -> Quantizer | None:
    """Return the quantizer that `node` calls; None for any other node."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = graph_module.get_submodule(str(node.target))
    return module if isinstance(module, Quantizer) else None


def _moments(layer: _Layer, x: Tensor, rounded: Tensor, centered: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return, float32 `(groups, size, size)`, the moments `E[q q^T]` and `E[x q^T]` of the rounded inputs `q`, and
    what must be added to the diagonal so that rounding errors of these sums leave it positive."""
    second = mixed = mean = mean_rounded = torch.zeros(())
    rows = 0
    for part, part_rounded in zip(_patches(layer, x), _patches(layer, rounded), strict=True):
        second = second + part_rounded.mT @ part_rounded
        mixed = mixed + part.mT @ part_rounded
        mean, mean_rounded = mean + part.sum(1), mean_rounded + part_rounded.sum(1)
        rows += part.shape[1]
    second, mixed, mean, mean_rounded = second / rows, mixed / rows, mean / rows, mean_rounded / rows
    floor = (ROUNDOFF * second.diagonal(dim1=1, dim2=2).mean(1)).clamp(min=1e-12)[:, None, None]
    if centered:
        second = second - mean_rounded[:, :, None] * mean_rounded[:, None, :]
        mixed = mixed - mean[:, :, None] * mean_rounded[:, None, :]
    return second, mixed, floor


def _patches(layer: _Layer, x: Tensor) -> Iterator[Tensor]:
    """Yield what the layer's weights are multiplied with, `(groups, rows, size)`, at a sample of all positions."""
    generator = torch.Generator().manual_seed(0)
    size = layer.weight[0].numel()
    for images in x.split(CHUNK):
        share = max(1, ROWS * len(images) // len(x))
        if layer.node.target is aten.linear.default:
            rows = images.reshape(-1, size)
            yield rows[_some(len(rows), share, generator)].unsqueeze(0)
        else:
            columns = _unfold(layer, images)  # (images, groups * size, positions)
            columns = columns[:, :, _some(columns.shape[2], max(1, share // len(images)), generator)]
            columns = columns.reshape(len(images), layer.groups, size, -1)
            yield columns.permute(1, 0, 3, 2).reshape(layer.groups, -1, size)


def _some(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:most] if count > most else torch.arange(count)


def _unfold(layer: _Layer, x: Tensor) -> Tensor:
    arguments = [*layer.node.args[3:6], *[None] * 3][:3]
    flat = layer.weight.dim() == 3
    kernel = tuple(layer.weight.shape[2:])
    stride, padding, dilation = (_pair(a, len(kernel), d) for a, d in zip(arguments, (1, 0, 1), strict=True))
    if isinstance(arguments[1], str):
        whole = [d * (k - 1) if arguments[1] == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        x = F.pad(x, [side for w in reversed(whole) for side in (w // 2, w - w // 2)])
        padding = (0,) * len(kernel)
    if flat:
        x, kernel, stride, padding, dilation = x.unsqueeze(2), (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
    return F.unfold(x, kernel, dilation, padding, stride)


def _pair(value: Any, count: int, default: int) -> tuple[int, ...]:
    values = (
        value if isinstance(value, list | tuple) else [default if value is None or isinstance(value, str) else value]
    )
    return tuple(values) * (count if len(values) == 1 else 1)


def _error(difference: Tensor, hessian: Tensor) -> Tensor:
    """Return the squared error of each output, `(groups, outputs)`."""
    return ((difference @ hessian) * difference).sum(2)


def _best(
    target: Tensor, nearest: Tensor, hessian: Tensor, scale: Tensor, low: int, high: int, per_tensor: bool = False
) -> tuple[Tensor, Tensor]:
    """Return codes and scales of least error, never worse than `nearest` with the scales given."""

    def together(value: Tensor) -> Tensor:
        return value.sum((0, 1), keepdim=True).expand_as(value) if per_tensor else value

    best_error = together(_error(nearest * scale - target, hessian)[:, :, None])
    best_codes, best_scale = nearest.clone(), scale.clone()
    codes, step = _compensate(target, hessian, scale, low, high), scale
    for _ in range(ROUNDS):
        codes = _descend(codes, target, hessian, step, low, high)
        error = together(_error(codes * step - target, hessian)[:, :, None])
        better = error < best_error
        best_codes, best_scale = torch.where(better, codes, best_codes), torch.where(better, step, best_scale)
        best_error = torch.minimum(error, best_error)
        image = codes @ hessian
        over, fitted = (together((image * other).sum(2, keepdim=True)) for other in (codes, target))
        step = torch.where((over > 0) & (fitted > 0), fitted / over.clamp(min=1e-20), step)
    return best_codes, best_scale


def _compensate(target: Tensor, hessian: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Round column after column; the columns after it take over the error of each as well as they can (GPTQ)."""
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    weight, codes = target.clone(), torch.zeros_like(target)
    size = weight.shape[2]
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        errors = torch.zeros_like(weight[:, :, begin:end])
        for j in range(begin, end):
            codes[:, :, j] = (weight[:, :, j] / scale[:, :, 0]).round().clamp(low, high)
            error = (weight[:, :, j] - codes[:, :, j] * scale[:, :, 0]) / inverse[:, j, j, None]
            weight[:, :, j:end] -= error[:, :, None] * inverse[:, None, j, j:end]
            errors[:, :, j - begin] = error
        weight[:, :, end:] -= errors @ inverse[:, begin:end, end:]
    return codes


def _descend(codes: Tensor, target: Tensor, hessian: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Set one code after the other to the best value given all others, until none changes."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    step = scale[:, :, 0]
    codes = codes.clone()
    for _ in range(SWEEPS):
        slope = (codes * scale - target) @ hessian
        before = codes.clone()
        for begin in range(0, codes.shape[2], BLOCK):
            end = min(begin + BLOCK, codes.shape[2])
            local = slope[:, :, begin:end].clone()
            start = codes[:, :, begin:end].clone()
            for j in range(begin, end):
                wanted = codes[:, :, j] - local[:, :, j - begin] / (diagonal[:, j, None] * step)
                new = wanted.round().clamp(low, high)
                moved = (new - codes[:, :, j]) * step
                codes[:, :, j] = new
                local += moved[:, :, None] * hessian[:, None, j, begin:end]
            slope += ((codes[:, :, begin:end] - start) * scale) @ hessian[:, begin:end]
        if torch.equal(before, codes):
            break
    return codes
