"""How much each layer's rounding changes what the network says, and the bits a budget of bytes buys best."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from edgepress.core.allocate import Option, OverBudgetError, allocate
from edgepress.core.errors import ConfigError
from edgepress.export.fake import Quantizer
from edgepress.export.graph import parameter_of
from edgepress.quantize.config import LEAST_BITS, MOST_BITS, QuantizeConfig
from edgepress.quantize.observe import SHARES, weight_range
from edgepress.quantize.place import place
from edgepress.quantize.widths import Layer, layers

MEASURED = (2, 3, 4)
"""Widths at which a budget measures each layer; above them the loss follows the squared error of the weights."""

IMAGES = 128

Losses = dict[str, dict[int, float]]


def sensitivity(
    graph_module: fx.GraphModule,
    found: Mapping[str, Layer],
    inputs: Tensor,
    widths: Sequence[int],
    classes: bool = True,
) -> Losses:
    """Return what it costs to hold the weights of only one layer in so many bits: layer -> bits -> loss.

    `graph_module` is traced and has no quantizers; `inputs` (the first `IMAGES` of them) pass it once, and from each
    layer on once per width. The loss is the Kullback-Leibler divergence between the outputs with and without, per image
    or pixel, where the outputs are `classes` (along axis 1), else the squared error per squared output.
    """
    with torch.no_grad():
        return _OneByOne(graph_module, found, classes).measure(inputs[:IMAGES], widths)


def widths_for_budget(
    graph_module: fx.GraphModule, inputs: Tensor, config: QuantizeConfig, classes: bool = True
) -> dict[str, int]:
    """Return the bits of each layer of a traced network with which the outputs suffer least within `config.budget`.

    They lie between 2 and `config.weights`; the first and the last layer keep `config.first_last`, layers that
    `config.bits` names keep those. Raises `ConfigError` where the budget is too small, saying what is possible.
    """
    assert config.budget is not None and config.budget.bytes is not None
    found = layers(graph_module, place(graph_module, LEAST_BITS, config.activations, config.first_last))
    choices = {
        name: [config.bits[name]]
        if name in config.bits
        else list(range(layer.site.bits, max(config.weights, layer.site.bits) + 1))
        for name, layer in found.items()
    }
    free = {name: layer for name, layer in found.items() if len(choices[name]) > 1}
    measured = sensitivity(graph_module, free, inputs, MEASURED, classes)
    options: list[list[Option]] = []
    for name, layer in found.items():
        losses = _extended(graph_module, layer, measured[name], choices[name]) if name in free else {}
        options.append([Option(layer.bytes(b), losses.get(b, 0.0)) for b in choices[name]])
    try:
        chosen = allocate(options, config.budget.bytes)
    except OverBudgetError as error:
        fixed = sum(found[name].bytes(choices[name][0]) for name in found if name not in free)
        raise ConfigError(
            f"quantize: budget: {config.budget.bytes:,} bytes cannot be met: with {LEAST_BITS} bits wherever they may "
            f"change the weights take {error.least:,.0f}, of which {fixed:,} are layers whose bits are fixed (the "
            "first and the last one by `first_last`, others by `bits`)"
        ) from None
    return {name: choices[name][i] for name, i in zip(found, chosen, strict=True)}


def _extended(graph_module: fx.GraphModule, layer: Layer, known: dict[int, float], bits: list[int]) -> dict[int, float]:
    """Return the losses at all widths: measured ones made falling, those above by the squared error of the weights."""
    weight = _weight(graph_module, layer)
    highest = max(known)
    reference = float((_rounded(weight, layer, highest) - weight).square().sum())
    losses: dict[int, float] = {}
    least = float("inf")
    for b in bits:
        if b in known:
            least = min(least, known[b])  # noise must not make fewer bits look better
        elif reference > 0:
            error = float((_rounded(weight, layer, b) - weight).square().sum())
            least = min(least, known[highest] * error / reference)
        losses[b] = least
    return losses


def _weight(graph_module: fx.GraphModule, layer: Layer) -> Tensor:
    node = next(n for n in graph_module.graph.nodes if n.name == layer.site.node)
    weight = parameter_of(graph_module, node)
    assert weight is not None
    return weight.detach()


def _rounded(weight: Tensor, layer: Layer, bits: int) -> Tensor:
    scheme = replace(layer.site, bits=bits).scheme
    quantizer = Quantizer(scheme, layer.site.channels)
    quantizer.set_range(*weight_range(weight, scheme, 1 if bits == MOST_BITS else SHARES))
    return quantizer(weight)


class _OneByOne(fx.Interpreter):
    """Runs the network once; from each layer on, once more per width with that layer alone rounded."""

    def __init__(self, graph_module: fx.GraphModule, found: Mapping[str, Layer], classes: bool) -> None:
        super().__init__(graph_module)
        self.graph_module, self.classes = graph_module, classes
        self.nodes = list(graph_module.graph.nodes)
        self.names = {layer.site.node: name for name, layer in found.items()}
        self.found = found

    def measure(self, inputs: Tensor, widths: Sequence[int]) -> Losses:
        expected = self._on(0, {}, inputs)
        losses: Losses = {name: {} for name in self.found}
        values: dict[fx.Node, Any] = {}
        for i, node in enumerate(self.nodes):
            name = self._layer(node)
            if name is not None and not losses[name]:
                for bits in widths:
                    weight = _rounded(values[node.args[1]], self.found[name], bits)
                    losses[name][bits] = self._loss(expected, self._on(i, {**values, node.args[1]: weight}, inputs))
            self._step(node, values, inputs)
        return losses

    def _layer(self, node: fx.Node) -> str | None:
        weight = node.args[1] if len(node.args) > 1 else None
        return self.names.get(weight.name) if isinstance(weight, fx.Node) else None

    def _on(self, start: int, values: dict[fx.Node, Any], inputs: Tensor) -> Tensor:
        for node in self.nodes[start:]:
            if node.op == "output":
                return values[node.args[0]].double()
            self._step(node, values, inputs)
        raise AssertionError("a graph ends in its output")

    def _step(self, node: fx.Node, values: dict[fx.Node, Any], inputs: Tensor) -> None:
        if node.op == "output":
            return
        self.env = values
        values[node] = inputs if node.op == "placeholder" else self.run_node(node)
        for last in self.user_to_last_uses.get(node, []):
            values.pop(last, None)

    def _loss(self, expected: Tensor, got: Tensor) -> float:
        if not self.classes:
            return float((got - expected).square().sum() / expected.square().sum().clamp(min=1e-20))
        wanted, given = F.log_softmax(expected, 1), F.log_softmax(got, 1)
        return float(F.kl_div(given, wanted, reduction="none", log_target=True).sum(1).mean().clamp(min=0))
