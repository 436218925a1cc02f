"""Learned rounding: codes that keep what a layer computes, not codes that are nearest to its weights.

Rounding each weight to its nearest code is not the best choice, for the errors of the weights of one channel add up
(AdaRound, Nagel et al. 2020). As there, each layer is reconstructed by itself, on inputs from the already quantized
network, towards the output of the floating-point one. That error is a quadratic form in the weights, with the second
moments of the inputs, so it is minimized directly: error compensation column by column (GPTQ, Frantar et al. 2022),
then coordinate descent over the codes and a closed form for the scales (as QuantEase, Behdin et al. 2023), in place of
gradient descent on a relaxation. The result is exact by construction: the weights are codes times scale.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from edgepress.quantize.bias import channel_mean, shifted
from edgepress.quantize.codes import best_codes, squared_error
from edgepress.quantize.weighted import Layer, layers_of, patches, quantizer_of

DAMPING = 0.01
"""Share of the mean second moment added to each: a weight whose input was never seen keeps its value."""

ROUNDOFF = 1e-5
"""Share of the mean second moment that sums in float32 may be off by: all there is where inputs are constant."""

WIDEST, SLICE = 8192, 2048
"""A layer of more inputs is rounded in slices of so many: its quadratic form would take the square of its inputs in
memory and the cube in time. The first layer behind VGG-11's images has 25,088, hence 2.5 GB and 30 TFLOP."""


@dataclass(frozen=True)
class Reconstruction:
    """How well a layer's output is kept by nearest and by learned codes: squared error per squared output."""

    layer: str
    nearest: float
    learned: float


Rounded = tuple[Tensor, Tensor, float, float]
"""Codes, scales, and the error of the nearest and of these codes."""


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

    def _round(self, layer: Layer, x: Tensor, rounded: Tensor) -> None:
        centered = layer.bias is not None and self.correct_biases
        round_ = self._in_slices if layer.groups == 1 and layer.weight[0].numel() > WIDEST else self._at_once
        codes, scale, nearest, learned = round_(layer, x, rounded, centered)
        layer.quantizer.scale.copy_(scale.reshape(-1))
        layer.weight.copy_((codes * scale).reshape(layer.weight.shape))
        self.told(Reconstruction(str(layer.weight_node.target).rpartition(".")[0], nearest, learned))

    def _at_once(self, layer: Layer, x: Tensor, rounded: Tensor, centered: bool) -> Rounded:
        second, mixed, floor = _moments(layer, x, rounded, centered)
        outputs, size = layer.weight.shape[0], layer.weight[0].numel()
        weight = layer.weight.detach().reshape(layer.groups, outputs // layer.groups, size)
        scale = layer.quantizer.scale.reshape(layer.groups, -1, 1)
        low, high = layer.quantizer.scheme.qmin, layer.quantizer.scheme.qmax
        hessian, damping = _damped(second, floor)
        target = torch.linalg.solve(hessian, weight @ mixed + damping * weight, left=False)
        nearest = (weight / scale).round().clamp(low, high)
        codes, scale = best_codes(target, nearest, hessian, scale, low, high, self.per_tensor)
        energy = float(((target @ hessian) * target).sum().clamp(min=1e-20))
        before = squared_error(nearest * layer.quantizer.scale.reshape(scale.shape) - target, hessian)
        after = squared_error(codes * scale - target, hessian)
        return codes, scale, float(before.sum()) / energy, float(after.sum()) / energy

    def _in_slices(self, layer: Layer, x: Tensor, rounded: Tensor, centered: bool) -> Rounded:
        """Round some inputs after the others, each slice towards what the slices before it left of the output."""
        seen, given = (torch.cat(list(patches(layer, one)), 1)[0] for one in (x, rounded))
        if centered:
            seen, given = seen - seen.mean(0), given - given.mean(0)
        weight, scale = layer.weight.detach().flatten(1), layer.quantizer.scale.reshape(-1, 1)
        low, high = layer.quantizer.scheme.qmin, layer.quantizer.scheme.qmax
        nearest = (weight / scale).round().clamp(low, high)
        wanted, codes, missing = seen @ weight.T, torch.empty_like(weight), torch.zeros(())
        for columns in torch.arange(weight.shape[1]).split(SLICE):
            own, q = weight[:, columns], given[:, columns]
            missing = missing + seen[:, columns] @ own.T
            second = (q.T @ q / len(q))[None]
            hessian, damping = _damped(second, _floor(second))
            target = torch.linalg.solve(hessian, (missing.T @ q / len(q))[None] + damping * own, left=False)
            found, _ = best_codes(target, nearest[None, :, columns], hessian, scale[None], low, high, refit=False)
            codes[:, columns] = found[0]
            missing = missing - q @ (found[0] * scale).T
        energy = float(wanted.square().sum().clamp(min=1e-20))
        before, after = (float(off.square().sum()) / energy for off in (given @ (nearest * scale).T - wanted, missing))
        return (codes, scale, before, after) if after < before else (nearest, scale, before, before)


def _moments(layer: Layer, x: Tensor, rounded: Tensor, centered: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return, float32 `(groups, size, size)`, the moments `E[q q^T]` and `E[x q^T]` of the rounded inputs `q`, and
    what must be added to the diagonal so that rounding errors of these sums leave it positive."""
    second = mixed = mean = mean_rounded = torch.zeros(())
    rows = 0
    for part, part_rounded in zip(patches(layer, x), patches(layer, rounded), strict=True):
        second = second + part_rounded.mT @ part_rounded
        mixed = mixed + part.mT @ part_rounded
        mean, mean_rounded = mean + part.sum(1), mean_rounded + part_rounded.sum(1)
        rows += part.shape[1]
    second, mixed, mean, mean_rounded = second / rows, mixed / rows, mean / rows, mean_rounded / rows
    floor = _floor(second)
    if centered:
        second = second - mean_rounded[:, :, None] * mean_rounded[:, None, :]
        mixed = mixed - mean[:, :, None] * mean_rounded[:, None, :]
    return second, mixed, floor


def _floor(second: Tensor) -> Tensor:
    return (ROUNDOFF * second.diagonal(dim1=1, dim2=2).mean(1)).clamp(min=1e-12)[:, None, None]


def _damped(second: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return the second moments with something added to their diagonal, and what that is."""
    damping = (DAMPING * second.diagonal(dim1=1, dim2=2).mean(1)).clamp(min=0)[:, None, None] + floor
    return second + damping * torch.eye(second.shape[1]), damping
