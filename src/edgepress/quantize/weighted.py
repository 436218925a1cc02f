"""The layers of a traced network whose weights are integers, and what these weights are multiplied with."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgepress.export.fake import Quantizer
from edgepress.export.graph import aten, parameter_of
from edgepress.quantize.bias import WITH_BIAS

ROWS = 2**15
"""Positions of the calibration images that a layer is looked at in."""

CHUNK = 64


@dataclass(frozen=True)
class Layer:
    """A weighted operation with an integer weight: its parameters as the graph holds them."""

    node: fx.Node
    weight_node: fx.Node
    weight: Tensor
    quantizer: Quantizer
    bias: Tensor | None

    @property
    def groups(self) -> int:
        """How many groups of outputs see inputs of their own."""
        if self.node.target is aten.linear.default or len(self.node.args) < 7:
            return 1
        return int(self.node.args[6])  # type: ignore[arg-type]


def layers_of(graph_module: fx.GraphModule) -> list[Layer]:
    """Return the convolutions and linear layers whose weights pass a quantizer, in order."""
    found: list[Layer] = []
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
        found.append(Layer(node, weight_node, weight, quantizer, bias if own else None))
    return found


def quantizer_of(graph_module: fx.GraphModule, node: Any) -> Quantizer | None:
    """Return the quantizer that `node` calls; None for any other node."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = graph_module.get_submodule(str(node.target))
    return module if isinstance(module, Quantizer) else None


def patches(layer: Layer, x: Tensor) -> Iterator[Tensor]:
    """Yield what the layer's weights are multiplied with, `(groups, rows, size)`, at a sample of all positions."""
    generator = torch.Generator().manual_seed(0)
    size = layer.weight[0].numel()
    for images in x.split(CHUNK):
        share = max(1, ROWS * len(images) // len(x))
        if layer.node.target is aten.linear.default:
            rows = images.reshape(-1, size)
            yield rows[_some(len(rows), share, generator)].unsqueeze(0)
        else:
            columns = unfold(layer, images)  # (images, groups * size, positions)
            columns = columns[:, :, _some(columns.shape[2], max(1, share // len(images)), generator)]
            columns = columns.reshape(len(images), layer.groups, size, -1)
            yield columns.permute(1, 0, 3, 2).reshape(layer.groups, -1, size)


def _some(count: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)[:most] if count > most else torch.arange(count)


def unfold(layer: Layer, x: Tensor) -> Tensor:
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
