"""Bit widths layer by layer: what each layer is called, what it may have, what it then weighs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import fx

from edgepress.core.errors import ConfigError, suggest
from edgepress.export.graph import aten, parameter_of
from edgepress.quantize.bias import WITH_BIAS
from edgepress.quantize.config import FLOAT_BITS
from edgepress.quantize.place import Placement, Site, rule_of


@dataclass(frozen=True)
class Layer:
    """A layer whose weights become integers: its module path, its quantizer's site, the shape of its weights."""

    name: str
    site: Site
    shape: tuple[int, ...]

    def bytes(self, bits: int) -> int:
        """Return what the layer takes in a file: packed weights, a float32 scale and a float32 bias per channel."""
        return (prod(self.shape) * bits + 7) // 8 + 8 * self.shape[0]


def layers(graph_module: fx.GraphModule, placement: Placement) -> dict[str, Layer]:
    """Return the layers with integer weights by name, in order."""
    nodes = {node.name: node for node in graph_module.graph.nodes}
    found: dict[str, Layer] = {}
    for site in placement.sites:
        weight = parameter_of(graph_module, nodes[site.node])
        if weight is not None:
            name = str(nodes[site.node].target).rpartition(".")[0] or str(nodes[site.node].target)
            found[name if name not in found else str(nodes[site.node].target)] = Layer(name, site, tuple(weight.shape))
    return found


def assign(graph_module: fx.GraphModule, placement: Placement, bits: Mapping[str, int]) -> Placement:
    """Return `placement` with the weights of the layers named in `bits` at that width; 32 leaves a layer in float.

    A layer in float also reads its input as it is, where nothing else needs it in integers. Raises `ConfigError`
    for a name that is no layer.
    """
    known = layers(graph_module, placement)
    unknown = [name for name in bits if name not in known]
    if unknown:
        raise ConfigError([f"bits: there is no layer {name!r}{suggest(name, known)}" for name in unknown])
    width = {known[name].site.node: b for name, b in bits.items()}
    floating = {node for node, b in width.items() if b == FLOAT_BITS}
    integers = [replace(s, bits=width.get(s.node, s.bits)) for s in placement.sites if s.node not in floating]
    sites = _after(integers, _pools_behind(graph_module, floating))
    inputs = _inputs_of(graph_module, sites, floating)
    names = tuple(f"{name}: weights" for name, b in bits.items() if b == FLOAT_BITS)
    return replace(
        placement, sites=tuple(s for s in sites if s.node not in inputs), in_float=(*placement.in_float, *names)
    )


def _inputs_of(graph_module: fx.GraphModule, placed: Sequence[Site], floating: set[str]) -> set[str]:
    """Return the sites of values that only layers in float read and that no other site shares."""
    shared = [site.quantizer for site in placed]
    sites = {site.node for site in placed if shared.count(site.quantizer) == 1}
    found: set[str] = set()
    for node in graph_module.graph.nodes:
        readers = _readers(node)
        if node.name in sites and readers and all(_weight_of(u, node) in floating for u in readers):
            found.add(node.name)
    return found


def _pools_behind(graph_module: fx.GraphModule, floating: set[str]) -> dict[str, str]:
    """Return, for each value that a layer in float gives to one max-pool alone, the name of that pool.

    The maximum of rounded values is the rounded maximum: rounding may wait for it. Behind it there is less to round,
    and ONNX Runtime pools codes in PyTorch's layout eight times as slowly as floats (32 x 32 x 32: 0.14 ms).
    """
    found: dict[str, str] = {}
    for node in graph_module.graph.nodes:
        readers = _readers(node)
        source = node.args[0] if rule_of(node).kind == "clamp" and len(_readers(node.args[0])) == 1 else node
        in_float = source.target in WITH_BIAS and _weight_of(source, source.args[0]) in floating
        if in_float and len(readers) == 1 and readers[0].target is aten.max_pool2d.default:
            found[node.name] = readers[0].name
    return found


def _after(sites: list[Site], pools: dict[str, str]) -> tuple[Site, ...]:
    """Return `sites` with those of the values in `pools` moved behind the pool, whose codes are the same."""
    moved = {s.quantizer: pools[s.node] for s in sites if s.node in pools and not s.only}
    return tuple(replace(s, quantizer=moved.get(s.quantizer, s.quantizer)) for s in sites if s.node not in pools)


def _readers(node: fx.Node) -> list[fx.Node]:
    """Return who reads values of `node`: who only asks for its size does not."""
    return [user for user in node.users if user.target is not aten.sym_size.int]


def _weight_of(node: fx.Node, value: object) -> str | None:
    """Return the name of the weight by which `node` multiplies `value`, if it does."""
    weight = node.args[1] if node.target in WITH_BIAS and node.args[0] is value else None
    return weight.name if isinstance(weight, fx.Node) else None
