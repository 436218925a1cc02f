"""Bias correction: rounding shifts the mean of a channel, its bias takes the shift back (Nagel et al. 2019, 4.2)."""

from typing import Any

import torch
from torch import Tensor, fx

from edgepress.export.fake import Quantizer
from edgepress.export.graph import CONVOLUTIONS, aten, parameter_of

WITH_BIAS = (*CONVOLUTIONS, aten.linear.default)


def correct_biases(graph_module: fx.GraphModule, quantizers: dict[str, Quantizer], inputs: Tensor) -> None:
    """Shift the biases of a calibrated network, in place, so that each channel keeps its floating-point mean.

    Layers are corrected in order, each with the rounding of all layers before it; `inputs` pass twice, whole.
    """
    graph_module.eval()
    with torch.no_grad():
        for quantizer in quantizers.values():
            quantizer.enabled = False
        means = _Means(graph_module)
        try:
            means.run(inputs)
        finally:
            for quantizer in quantizers.values():
                quantizer.enabled = True
        _Correction(graph_module, means.found).run(inputs)


def shifted(node: fx.Node, bias: Tensor, expected: Tensor, output: Tensor) -> Tensor:
    """Add to `bias`, in place, what gives each channel of `output` the mean `expected` (`channel_mean`); return the
    output with it. `node` is a convolution or a linear layer."""
    shift = (expected - channel_mean(node, output)).to(output.dtype)
    bias.add_(shift)
    return output + (shift if node.target is aten.linear.default else shift.view(-1, *[1] * (output.dim() - 2)))


def channel_mean(node: fx.Node, output: Tensor) -> Tensor:
    """Return the mean of each channel of what `node` gives, float64."""
    axis = output.dim() - 1 if node.target is aten.linear.default else 1
    return output.double().mean([d for d in range(output.dim()) if d != axis])


class _Means(fx.Interpreter):
    """Runs the network and keeps the mean of each channel after each weighted operation."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.found: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        if n.target in WITH_BIAS:
            self.found[n] = channel_mean(n, output)
        return output


class _Correction(fx.Interpreter):
    """Runs the quantized network and corrects each bias as it passes."""

    def __init__(self, graph_module: fx.GraphModule, means: dict[fx.Node, Tensor]) -> None:
        super().__init__(graph_module)
        self.graph_module, self.means = graph_module, means

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        bias_node = n.args[2] if n.target in WITH_BIAS and len(n.args) > 2 else None
        bias = parameter_of(self.graph_module, bias_node)
        if bias is None or len(bias_node.users) != 1:  # type: ignore[union-attr]
            return output
        return shifted(n, bias, self.means[n], output)
