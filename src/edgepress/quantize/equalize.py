"""Cross-layer equalization: what one layer divides a channel by, the next multiplies it by (Nagel et al. 2019, 4.1).

What lies between the two layers must pass a positive factor through: nothing, ReLU, leaky ReLU, pooling. Then the
network computes exactly what it did. ReLU6 and other clamps with an upper end do so only below that end: there a
channel is scaled only as far as the calibration images stay below it, before and after, so the network is the same on
them and may differ on an image that goes beyond. Hard-swish, SiLU, GELU, sigmoid and additions pass no factor: layers
with these between them are left alone.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, fx

from edgepress.export.graph import CONVOLUTIONS, aten, parameter_of, shape_of
from edgepress.quantize.bias import WITH_BIAS

PASSING = (aten.max_pool2d.default, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default, aten.leaky_relu.default)
SWEEPS = 20
CLOSE = 1e-3


@dataclass(frozen=True)
class Pair:
    """Two layers between which a factor per channel may move; `limit` is the upper end of a clamp between them."""

    first: fx.Node
    second: fx.Node
    limit: float


def equalize(graph_module: fx.GraphModule, inputs: Tensor, by_activations: bool = True) -> int:
    """Equalize all pairs of a traced network without quantizers, in place; return how many there are.

    Each factor makes two ranges of a channel the same: that of the second layer's weights that read it, and that of
    its values on `inputs` (`by_activations`; right for weights with a scale per channel, whose own range costs
    nothing) or that of the first layer's weights (the paper's; right for one scale per layer).
    """
    found = pairs(graph_module)
    if not found:
        return 0
    with torch.no_grad():
        seen = _Tops(graph_module, {p.first for p in found})
        seen.run(inputs)
        for _ in range(SWEEPS):
            if max(_balance(graph_module, pair, seen.tops, by_activations) for pair in found) < CLOSE:
                break
    return len(found)


def pairs(graph_module: fx.GraphModule) -> list[Pair]:
    """Return the pairs of layers between which nothing but what passes a factor through lies."""
    found: list[Pair] = []
    for node in graph_module.graph.nodes:
        if not _has_own_weight(graph_module, node):
            continue
        limit, last = inf, node
        while len(last.users) == 1:
            user = next(iter(last.users))
            if user.target in WITH_BIAS and user.args[0] is last:
                if _has_own_weight(graph_module, user) and _channels(graph_module, user) == _outputs(
                    graph_module, node
                ):
                    found.append(Pair(node, user, limit))
                break
            top = _top(user)
            if top is None:
                break
            limit, last = min(limit, top), user
    return found


def _top(node: fx.Node) -> float | None:
    """Return the value above which `node` clamps (infinity: nowhere); None where it passes no factor through."""
    if node.target in (aten.relu.default, *PASSING):
        return inf
    if node.target is aten.flatten.using_ints or node.target is aten.reshape.default:
        shape = shape_of(node.args[0])
        return inf if len(shape) == 4 and shape[2:] == (1, 1) and len(shape_of(node)) == 2 else None
    if node.target is aten.relu6.default:
        return 6.0
    if node.target in (aten.hardtanh.default, aten.clamp.default) and len(node.args) > 1 and node.args[1] == 0:
        top = node.args[2] if len(node.args) > 2 else None
        return inf if top is None else float(top)  # type: ignore[arg-type]
    return None


def _has_own_weight(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_function" or node.target not in WITH_BIAS:
        return False
    parameters = [a for a in node.args[1:3] if isinstance(a, fx.Node)]
    return all(parameter_of(graph_module, p) is not None and len(p.users) == 1 for p in parameters)


def _outputs(graph_module: fx.GraphModule, node: fx.Node) -> int:
    weight = parameter_of(graph_module, node.args[1])
    assert weight is not None
    # A linear layer on images or tokens has its channels last; a convolution after it would read others.
    return weight.shape[0] if node.target in CONVOLUTIONS or len(shape_of(node)) == 2 else -1


def _channels(graph_module: fx.GraphModule, node: fx.Node) -> int:
    weight = parameter_of(graph_module, node.args[1])
    assert weight is not None
    return weight.shape[1] * _groups(node)


def _groups(node: fx.Node) -> int:
    return int(node.args[6]) if node.target in CONVOLUTIONS and len(node.args) > 6 else 1  # type: ignore[arg-type]


class _Tops(fx.Interpreter):
    """Runs the network and keeps the highest magnitude and the highest value of each channel after some layers."""

    def __init__(self, graph_module: fx.GraphModule, layers: set[fx.Node]) -> None:
        super().__init__(graph_module)
        self.layers = layers
        self.tops: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Tensor:
        output = super().run_node(n)
        if n in self.layers:
            self.tops[n] = output.transpose(0, 1).flatten(1).amax(1).clamp(min=0)
        return output


def _balance(graph_module: fx.GraphModule, pair: Pair, tops: dict[fx.Node, Tensor], by_activations: bool) -> float:
    """Move one pair to balance; return the largest change of a factor."""
    weight, bias = (parameter_of(graph_module, a) for a in (*pair.first.args[1:3], None)[:2])
    following = parameter_of(graph_module, pair.second.args[1])
    assert weight is not None and following is not None
    groups = _groups(pair.second)
    grouped = following.view(groups, following.shape[0] // groups, following.shape[1], -1)
    read = grouped.abs().amax((1, 3)).flatten()
    top = tops[pair.first]
    own = top if by_activations else weight.abs().flatten(1).amax(1)
    factor = torch.where((own > 0) & (read > 0), (own / read.clamp(min=1e-20)).sqrt(), 1.0)
    if by_activations:
        factor = factor / factor.log().mean().exp()  # only ratios count; sizes as they were keep numbers tame
    if pair.limit != inf:
        factor = torch.where(top < pair.limit, torch.maximum(factor, top / pair.limit), 1.0)
    factor = factor.clamp(1e-3, 1e3)
    weight.div_(factor.view(-1, *[1] * (weight.dim() - 1)))
    if bias is not None:
        bias.div_(factor)
    tops[pair.first] = top / factor
    grouped.mul_(factor.view(groups, 1, -1, 1))
    return float(factor.log().abs().max())
