"""Where quantizers go, so that ONNX Runtime runs integer kernels from end to end.

One table, `RULES`, says what an operation is to an integer runtime; the rest of this file applies it. Its rules are
those by which ONNX Runtime fuses quantize/dequantize pairs into integer kernels on a CPU:

- a *weighted* operation (convolution, linear, matmul) wants inputs and weight quantized, a convolution its output too;
- an *integer* operation (add, mul, concatenation, pooling, sigmoid) wants all its inputs and its output quantized;
- *moving* operations (max-pool, reshape, slice ...) hold the codes they are given, so they share scale and zero point;
- *clamps* at 0 vanish into the zero point of the quantizer after them, so the value before them is not rounded.

What the table does not name stays in floating point, and the record of the quantization names it. Of what segmentation
networks use that is bilinear resizing and transposed convolution: ONNX Runtime 1.31 runs both in floating point between
a dequantization and a quantization, whatever surrounds them. Nearest-neighbor resizing of codes takes two thirds of the
time that it takes with both roundings around it (24 channels from 90x120 to 180x240: 0.94 and 1.40 ms).
"""

import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import fx, nn

from edgepress.core.config import STRICT
from edgepress.core.errors import BundleError, EdgepressError
from edgepress.export.fake import Quantizer, Scheme
from edgepress.export.graph import aten, module_path, parameter_of, shape_of

Kind = Literal["weighted", "integer", "moving", "clamp", "float"]


@dataclass(frozen=True)
class Rule:
    """What an operation is; `rounds` where its result must be quantized for its kernel, `when` it applies at all."""

    kind: Kind
    rounds: bool = False
    when: Callable[[fx.Node], bool] = lambda node: True


def _one_pixel(node: fx.Node) -> bool:
    return list(node.args[1]) == [1, 1]  # type: ignore[arg-type]


def _two_tensors(node: fx.Node) -> bool:
    return all(isinstance(a, fx.Node) and shape_of(a) for a in node.args[:2]) and bool(node.kwargs.get("alpha", 1) == 1)


def _from_zero(node: fx.Node) -> bool:
    return len(node.args) < 2 or bool(node.args[1] == 0)


def _zeros(node: fx.Node) -> bool:
    mode = node.args[2] if len(node.args) > 2 and isinstance(node.args[2], str) else "constant"
    value = node.args[3] if len(node.args) > 3 else 0
    return mode == "constant" and not value


RULES: dict[Any, Rule] = {
    aten.conv1d.default: Rule("weighted", rounds=True),
    aten.conv2d.default: Rule("weighted", rounds=True),
    aten.conv2d.padding: Rule("weighted", rounds=True),
    aten.linear.default: Rule("weighted"),
    aten.matmul.default: Rule("weighted"),
    aten.bmm.default: Rule("weighted"),
    aten.add.Tensor: Rule("integer", rounds=True, when=_two_tensors),
    aten.mul.Tensor: Rule("integer", rounds=True, when=_two_tensors),
    aten.cat.default: Rule("integer", rounds=True),
    aten.avg_pool2d.default: Rule("integer", rounds=True),
    aten.adaptive_avg_pool2d.default: Rule("integer", rounds=True, when=_one_pixel),
    aten.sigmoid.default: Rule("integer", rounds=True),
    aten.hardsigmoid.default: Rule("integer", rounds=True),
    aten.leaky_relu.default: Rule("integer", rounds=True),
    aten.max_pool2d.default: Rule("moving"),
    aten.reshape.default: Rule("moving"),
    aten.flatten.using_ints: Rule("moving"),
    aten.permute.default: Rule("moving"),
    aten.transpose.int: Rule("moving"),
    aten.slice.Tensor: Rule("moving"),
    aten.select.int: Rule("moving"),
    aten.squeeze.dim: Rule("moving"),
    aten.squeeze.dims: Rule("moving"),
    aten.unsqueeze.default: Rule("moving"),
    aten.clone.default: Rule("moving"),
    aten.contiguous.default: Rule("moving"),
    aten.upsample_nearest2d.vec: Rule("moving"),
    aten.upsample_nearest2d.default: Rule("moving"),
    aten.constant_pad_nd.default: Rule("moving", when=lambda n: len(n.args) < 3 or not n.args[2]),
    aten.pad.default: Rule("moving", when=_zeros),
    aten.chunk.default: Rule("moving"),
    aten.split.Tensor: Rule("moving"),
    aten.split_with_sizes.default: Rule("moving"),
    operator.getitem: Rule("moving"),
    aten.relu.default: Rule("clamp"),
    aten.relu6.default: Rule("clamp"),
    aten.hardtanh.default: Rule("clamp", when=_from_zero),
    aten.clamp.default: Rule("clamp", when=lambda n: len(n.args) > 1 and bool(n.args[1] == 0)),
}
FLOAT = Rule("float")

FIXED_RANGES = {aten.sigmoid.default: (0.0, 1.0), aten.hardsigmoid.default: (0.0, 1.0)}
"""Operations whose range is known without data."""


@dataclass(frozen=True)
class Site:
    """One quantizer in the graph: it follows `node`; sites with the same `quantizer` share scale and zero point.

    `only` names the operations that read `node` through it; none: all do. Recorded in the model's edits, so that
    loading replays what was decided instead of deciding again.
    """

    __pydantic_config__ = STRICT

    node: str
    quantizer: str
    bits: int
    signed: bool
    axis: int | None
    channels: int
    only: tuple[str, ...] = ()

    @property
    def scheme(self) -> Scheme:
        """How the tensor is held."""
        return Scheme(self.bits, self.signed, self.axis)

    def plain(self) -> dict[str, Any]:
        """Return the site as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Placement:
    """Where quantizers go, and the operations (`module path: operation`) that stay in floating point."""

    sites: tuple[Site, ...]
    in_float: tuple[str, ...]


def rule_of(node: fx.Node) -> Rule:
    """Return the rule of the table for `node`; `FLOAT` where there is none or it does not apply."""
    rule = RULES.get(node.target, FLOAT) if node.op == "call_function" else FLOAT
    return rule if rule.when(node) else FLOAT


def place(graph_module: fx.GraphModule, weights: int = 8, activations: int = 8, first_last: int = 8) -> Placement:
    """Return where quantizers of these bit widths go in a traced network. Nothing is changed.

    The weights of the first and the last layer get `first_last` bits where that is more. Fewer than 8 bits for
    `activations` are given to what convolutions and linear layers read, those two layers excepted: additions, products
    and pooling keep 8, as in LSQ and APoT. A value that both kinds read is rounded to 8 bits, and again for the
    weighted one. Raises `EdgepressError` where the network has nothing to quantize.
    """
    nodes = list(graph_module.graph.nodes)
    rules = {node: _applicable(graph_module, node) for node in nodes}
    integer = _integer_values(nodes, rules)
    rules = {n: r if r.kind not in ("integer",) or integer[n] else FLOAT for n, r in rules.items()}
    weighted = [n for n in nodes if rules[n].kind == "weighted"]
    if not weighted:
        raise EdgepressError("this network has no convolution, linear layer or matmul that could be quantized")
    outer = _outer(weighted)
    sites: dict[fx.Node, list[Site]] = {}
    for node in nodes:
        if _is_tensor(node) and node.op != "get_attr" and _needed(node, rules) and not _deferred(node, rules):
            sites[node] = _activation_sites(node, rules, sites, outer, activations)
    for node in weighted:
        weight = node.args[1]
        tensor = parameter_of(graph_module, weight)
        if isinstance(weight, fx.Node) and tensor is not None:
            bits = max(weights, first_last) if node in outer else weights
            sites[weight] = [Site(weight.name, weight.name, bits, True, 0, tensor.shape[0])]
    return Placement(tuple(site for n in nodes for site in sites.get(n, ())), _left_in_float(nodes, rules))


def _outer(weighted: list[fx.Node]) -> set[fx.Node]:
    """Return the weighted operations that no other one comes before, and those that none comes after."""
    first: set[fx.Node] = set()
    last = set(weighted)
    behind: dict[fx.Node, bool] = {}
    known = set(weighted)
    for node in weighted[0].graph.nodes:
        behind[node] = any(behind[n] or n in known for n in node.all_input_nodes)
        if node in known and not behind[node]:
            first.add(node)
    ahead: set[fx.Node] = set()
    for node in reversed(weighted[0].graph.nodes):
        if any(user in ahead or user in known for user in node.users):
            ahead.add(node)
            last.discard(node)
    return first | last


def insert(graph_module: fx.GraphModule, sites: tuple[Site, ...]) -> dict[str, Quantizer]:
    """Insert quantizers into a traced network, in place, and return them by name.

    Raises `BundleError` where a recorded site is not in the graph.
    """
    nodes = {node.name: node for node in graph_module.graph.nodes}
    absent = [name for site in sites for name in (site.node, *site.only) if name not in nodes]
    if absent:
        raise BundleError(
            f"the recorded quantizer of {absent[0]!r} ({len(absent)} in all) has no place in this network: it was saved"
            " from another structure, or traced by a PyTorch version that writes it differently"
        )
    found: dict[str, Quantizer] = {}
    after: dict[str, fx.Node] = {}
    graph_module.add_module("quantizers", nn.Module())
    for site in sites:
        if site.quantizer not in found:
            found[site.quantizer] = Quantizer(site.scheme, site.channels)
            graph_module.add_submodule(f"quantizers.{site.quantizer}", found[site.quantizer])
        node = after[site.node] if site.only else nodes[site.node]
        with graph_module.graph.inserting_after(node):
            quantized = graph_module.graph.call_module(f"quantizers.{site.quantizer}", (node,))
        readers = {nodes[name] for name in site.only} or set(node.users) - {quantized}
        node.replace_all_uses_with(quantized, delete_user_cb=readers.__contains__)
        if not site.only:
            after[site.node] = quantized
        quantized.meta = dict(node.meta)
    graph_module.graph.lint()
    graph_module.recompile()
    return found


def _applicable(graph_module: fx.GraphModule, node: fx.Node) -> Rule:
    rule = rule_of(node)
    is_matmul = node.target in (aten.matmul.default, aten.bmm.default)
    if rule.kind == "weighted" and not is_matmul and parameter_of(graph_module, node.args[1]) is None:
        return FLOAT  # a computed weight has no integers to store
    return rule


def _inputs(node: fx.Node) -> list[fx.Node]:
    """Return the nodes whose values `node` works on, its parameters excluded."""
    return [n for n in node.all_input_nodes if n.op != "get_attr" and (_is_tensor(n) or _rule_is_list(n))]


def _rule_is_list(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), list | tuple)


def _is_tensor(node: fx.Node) -> bool:
    return node.op != "output" and hasattr(node.meta.get("val"), "dtype") and node.meta["val"].dtype.is_floating_point


def _integer_values(nodes: list[fx.Node], rules: dict[fx.Node, Rule]) -> dict[fx.Node, bool]:
    """Return which nodes an integer runtime can compute without leaving integers before them."""
    result: dict[fx.Node, bool] = {}
    for node in nodes:
        kind = rules[node].kind
        inputs = [n for n in node.all_input_nodes if _is_tensor(n) or _rule_is_list(n)]
        result[node] = kind == "weighted" or (kind != "float" and bool(inputs) and all(result[n] for n in inputs))
    return result


def _needed(node: fx.Node, rules: dict[fx.Node, Rule]) -> bool:
    """Return whether the value of `node` must be held in integers: for its own kernel or for one that reads it."""
    if rules[node].rounds:
        return True
    for user in node.users:
        kind = rules[user].kind
        if kind in ("weighted", "integer") or (kind == "moving" and _needed(user, rules)):
            return True
    return rules[node].kind == "clamp" and _deferred(node.all_input_nodes[0], rules)


def _deferred(node: fx.Node, rules: dict[fx.Node, Rule]) -> bool:
    """Return whether rounding waits for the clamp that alone reads `node`."""
    users = list(node.users)
    return rules[node].kind in ("weighted", "integer") and len(users) == 1 and rules[users[0]].kind == "clamp"


def _activation_sites(
    node: fx.Node,
    rules: dict[fx.Node, Rule],
    sites: dict[fx.Node, list[Site]],
    outer: set[fx.Node],
    bits: int,
) -> list[Site]:
    shared = _held_by(node, sites) if rules[node].kind == "moving" else None
    if shared:
        return [replace(shared, node=node.name)]
    if bits >= 8:
        return [Site(node.name, node.name, 8, False, None, 1)]
    narrow = [user for user in node.users if _reads_narrow(user, rules, outer)]
    if len(narrow) == len(node.users):
        return [Site(node.name, node.name, bits, False, None, 1)]
    wide = Site(node.name, node.name, 8, False, None, 1)
    direct = tuple(user.name for user in narrow if rules[user].kind == "weighted")
    return [wide, Site(node.name, f"{node.name}_narrow", bits, False, None, 1, direct)] if direct else [wide]


def _reads_narrow(node: fx.Node, rules: dict[fx.Node, Rule], outer: set[fx.Node]) -> bool:
    """Return whether `node` is, or only hands codes on to, weighted operations that take narrow activations."""
    if rules[node].kind == "moving":
        return bool(node.users) and all(_reads_narrow(user, rules, outer) for user in node.users)
    return rules[node].kind == "weighted" and node not in outer


def _held_by(node: fx.Node, sites: dict[fx.Node, list[Site]]) -> Site | None:
    """Return the site whose codes a moving operation hands on."""
    source = _inputs(node)[0]
    if source not in sites and _rule_is_list(source):
        source = _inputs(source)[0]
    return sites[source][0] if source in sites else None


def _left_in_float(nodes: list[fx.Node], rules: dict[fx.Node, Rule]) -> tuple[str, ...]:
    left = [
        f"{module_path(n) or '(network)'}: {getattr(n.target, '_opname', n.name)}"
        for n in nodes
        if n.op == "call_function" and rules[n].kind == "float" and _is_tensor(n)
    ]
    return tuple(dict.fromkeys(left))
