"""What a network of given widths takes: parameters, MACs, bytes and time, layer by layer, without building it.

The cost of a layer is the product of its two widths, and each belongs to another site; so costs do not add up over
sites, and the allocation (`prune.solve`) asks this model for every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from edgepress.core.artifact import Signature
from edgepress.cost.shapes import LayerTime, Shape, watch
from edgepress.prune.blocks import Block
from edgepress.prune.graph import MIXING, NORMS, Site


@dataclass(frozen=True)
class Layer:
    """One layer: its full widths, how often its kernel is applied for one image, and the sites its widths belong to.

    `out_sites` and `in_sites` hold, by number of the site, how many channels are gone with its first 0, 1, 2 ... units.
    """

    path: str
    shape: Shape
    inputs: int
    outputs: int
    kernel: int
    places: int
    bias: bool
    out_sites: tuple[tuple[int, tuple[int, ...]], ...]
    in_sites: tuple[tuple[int, tuple[int, ...]], ...]

    def widths(self, gone: Sequence[int]) -> tuple[int, int]:
        """Return inputs and outputs once `gone[site]` units of each site are taken away."""
        out = self.outputs - sum(taken[gone[site]] for site, taken in self.out_sites)
        into = self.inputs - sum(taken[gone[site]] for site, taken in self.in_sites)
        return into, out

    def params(self, inputs: int, outputs: int) -> float:
        """Return the parameters at these widths."""
        return outputs * (self._fan(inputs) * self.kernel + self.bias)

    def macs(self, inputs: int, outputs: int) -> float:
        """Return the multiply-accumulate operations for one image."""
        return self.places * outputs * self._fan(inputs) * self.kernel

    def _fan(self, inputs: int) -> float:
        grouping = self.shape.grouping
        return inputs if grouping == "full" else 1.0 if grouping == "depthwise" else inputs / int(grouping)


class CostModel:
    """Costs of `module` as a function of how many units of each site, and which blocks, are gone.

    `rest` is what the layers do not explain, by kind of cost; it shrinks with the activations. `scale` corrects a cost
    by what was measured on whole networks.
    """

    def __init__(self, module: nn.Module, signature: Signature, sites: Sequence[Site], blocks: Sequence[Block]) -> None:
        self.sites, self.blocks = sites, blocks
        self.layers, self.norms = _layers(module, signature, sites)
        self.inside = [
            frozenset(k for k, layer in enumerate(self.layers) if layer.path.startswith(block.path + "."))
            for block in blocks
        ]
        self.touching: list[list[int]] = [[] for _ in sites]
        for number, layer in enumerate(self.layers):
            for site in {site for site, _ in (*layer.out_sites, *layer.in_sites)}:
                self.touching[site].append(number)
        self.rest: dict[str, float] = {}
        self._share = 0.0
        self.time: LayerTime | None = None
        self.none = [0] * len(sites)

    def rank(self, orders: Sequence[Sequence[int]]) -> None:
        """Be told in which order the units of each site go."""
        shares = _shares(self.sites, orders)
        for number, layer in enumerate(self.layers):
            outs, ins = _sites_of(layer.path, layer.shape, shares)
            self.layers[number] = replace(layer, out_sites=outs, in_sites=ins)

    def layer_cost(self, number: int, kind: str, gone: Sequence[int]) -> float:
        """Return the cost `kind` of one layer, with its share of what surrounds it."""
        layer = self.layers[number]
        inputs, outputs = layer.widths(gone)
        if not inputs or not outputs:
            return 0.0
        if kind == "macs":
            return layer.macs(inputs, outputs)
        if kind == "latency_ms":
            assert self.time is not None
            return self.time(layer.shape, inputs, outputs) + self._around(layer, outputs)
        norm = self.norms.get(layer.path, 0) * outputs
        return (layer.params(inputs, outputs) + norm) * (4 if kind == "bytes" else 1)

    def total(self, kind: str, gone: Sequence[int], dropped: frozenset[int] = frozenset()) -> float:
        """Return the cost `kind` of the whole network."""
        dead = frozenset().union(*(self.inside[block] for block in dropped)) if dropped else frozenset()
        own = sum(self.layer_cost(k, kind, gone) for k in range(len(self.layers)) if k not in dead)
        return own + self.rest.get(kind, 0.0)

    def explain(self, kind: str, measured: float, spread: bool = False) -> None:
        """Take what the layers do not explain of `measured`, the cost of the uncut network, as the rest.

        With `spread` it is shared out over the layers by the size of their outputs (activations, copies); else it is
        fixed.
        """
        self.rest[kind], self._share = 0.0, 0.0
        missing = measured - self.total(kind, self.none)
        if spread:
            volume = sum(layer.places * layer.outputs for layer in self.layers)
            self._share = max(missing, 0.0) / max(volume, 1)
            missing = min(missing, 0.0)
        self.rest[kind] = missing

    def _around(self, layer: Layer, outputs: int) -> float:
        return self._share * layer.places * outputs


Shares = dict[tuple[str, str], list[tuple[int, tuple[int, ...]]]]


def _shares(sites: Sequence[Site], orders: Sequence[Sequence[int]]) -> Shares:
    """Return, by path and side of a layer, its sites and how many of its channels are gone with their first units."""
    found: Shares = {}
    for number, (site, order) in enumerate(zip(sites, orders, strict=True)):
        for member in site.members:
            each = torch.bincount(member.units, minlength=len(site.units))[list(order)]
            taken = (0, *each.cumsum(0).tolist())
            found.setdefault((member.path, member.side), []).append((number, taken))
    return found


def _sites_of(path: str, shape: Shape, shares: Shares) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    outs, ins = tuple(shares.get((path, "out"), ())), tuple(shares.get((path, "in"), ()))
    return (outs or ins, outs or ins) if shape.grouping == "depthwise" else (outs, ins)


def _layers(module: nn.Module, signature: Signature, sites: Sequence[Site]) -> tuple[list[Layer], dict[str, int]]:
    seen = watch(module, signature)
    shares = _shares(sites, [range(len(site.units)) for site in sites])
    norms: dict[str, int] = {}
    for site in sites:
        owner = site.path if site.kind == "channels" else f"{site.path}.qkv"
        parts = [module.get_submodule(m.path) for m in site.members]
        norms[owner] = sum(2 for p in parts if isinstance(p, (*NORMS, *MIXING)) and p.weight is not None)
    found: list[Layer] = []
    for path, (part, shape) in seen.items():
        outs, ins = _sites_of(path, shape[0], shares)
        part_: Any = part
        linear = isinstance(part, nn.Linear)
        inputs = part_.in_features if linear else part_.in_channels
        outputs = part_.out_features if linear else part_.out_channels
        kernel = 1 if linear else torch.Size(part_.kernel_size).numel()
        bias = part_.bias is not None
        found.append(Layer(path, shape[0], inputs, outputs, kernel, shape[1], bias, outs, ins))
    return found, norms
