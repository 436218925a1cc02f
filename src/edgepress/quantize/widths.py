"""Bit widths layer by layer: what each layer is called, what it may have, what it then weighs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from torch import fx

from edgepress.core.errors import ConfigError, suggest
from edgepress.export.graph import parameter_of
from edgepress.quantize.bias import WITH_BIAS
from edgepress.quantize.config import FLOAT_BITS
from edgepress.quantize.place import Placement, Site


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
    floating |= _inputs_of(graph_module, placement, floating)
    sites = tuple(replace(s, bits=width.get(s.node, s.bits)) for s in placement.sites if s.node not in floating)
    names = tuple(f"{name}: weights" for name, b in bits.items() if b == FLOAT_BITS)
    return replace(placement, sites=sites, in_float=(*placement.in_float, *names))


def _inputs_of(graph_module: fx.GraphModule, placement: Placement, floating: set[str]) -> set[str]:
    """Return the sites of values that only layers in float read and that no other site shares."""
    shared = [site.quantizer for site in placement.sites]
    sites = {site.node for site in placement.sites if shared.count(site.quantizer) == 1}
    found: set[str] = set()
    for node in graph_module.graph.nodes:
        readers = [u for u in node.users if u.target in WITH_BIAS and u.args[0] is node]
        alone = node.name in sites and bool(readers) and len(readers) == len(node.users)
        if alone and all(isinstance(u.args[1], fx.Node) and u.args[1].name in floating for u in readers):
            found.add(node.name)
    return found
