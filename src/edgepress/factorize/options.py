"""What may become of a layer: ranks, what they cost, what they lose; and which of them a budget takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log

from edgepress.core.allocate import Option, OverBudgetError, allocate
from edgepress.core.errors import ConfigError
from edgepress.cost.budget import ImpossibleBudgetError
from edgepress.cost.shapes import LayerTime
from edgepress.factorize.config import FactorizeConfig
from edgepress.factorize.methods.base import Floats, Method, Ranks, methods
from edgepress.factorize.pieces import Piece, cost
from edgepress.factorize.sites import Site
from edgepress.factorize.vbmf import vbmf_rank

LEAST_KEPT = 1e-6
"""A choice counts as keeping at least so much: its loss may be an upper bound of 1."""


@dataclass(frozen=True)
class Choice:
    """A layer by `method` at `ranks`: its factors, and the share of the squared norm that is expected to be lost."""

    method: str
    ranks: Ranks
    chain: tuple[Piece, ...]
    loss: float


@dataclass
class Layer:
    """A site with the methods that fit it, and the spectra of their unfoldings, computed once."""

    site: Site
    methods: tuple[str, ...]
    tails: dict[str, tuple[Floats, ...]] = field(default_factory=dict[str, tuple[Floats, ...]])

    def method(self, name: str) -> tuple[Method, tuple[Floats, ...]]:
        """Return a method and the tails of this layer's unfoldings."""
        found = methods.get(name)
        if name not in self.tails:
            self.tails[name] = found.tails(self.site.whole)
        return found, self.tails[name]

    def choice(self, name: str, ranks: Ranks) -> Choice:
        """Return what this method at these ranks gives."""
        found, tails = self.method(name)
        whole = self.site.whole
        return Choice(name, ranks, found.pieces(whole, ranks), found.loss(whole, tails, ranks))

    def cost(self, kind: str, chain: Sequence[Piece], time: LayerTime | None = None) -> float:
        """Return what `chain` takes in the place of this layer."""
        return cost(kind, chain, self.site.size, self.site.calls, time)

    def saves(self, kinds: Sequence[str], chain: Sequence[Piece], time: LayerTime | None = None) -> str | None:
        """Return None where `chain` takes less of each of `kinds` than what stands there now, else what it takes."""
        for kind in kinds:
            new, old = self.cost(kind, chain, time), self.cost(kind, self.site.whole.chain, time)
            if new >= old:
                return f"{kind} would be {new:.4g} instead of {old:.4g}"
        return None


def fitting(site: Site, config: FactorizeConfig) -> Layer:
    """Return the layer of `site` with the methods that the settings allow for it."""
    wanted = ["svd", *(["tucker", "spatial"] if config.conv == "auto" else [config.conv])]
    return Layer(site, tuple(name for name in wanted if name != "none" and methods.get(name).fits(site.whole)))


def by_rule(layer: Layer, rule: str, config: FactorizeConfig) -> list[Choice]:
    """Return one choice for each method that fits, its rank by `rule`; none where the rule finds nothing to keep."""
    if layer.site.ranks:
        return _by_hand(layer, layer.site.ranks)
    ranked = [(name, _rank(layer, name, rule, config)) for name in layer.methods]
    return [layer.choice(name, ranks) for name, ranks in ranked if ranks]


def ladder(layer: Layer, multiple: int) -> list[Choice]:
    """Return choices from coarse to fine for each method that fits; those set by hand where there are such."""
    if layer.site.ranks:
        return _by_hand(layer, layer.site.ranks)
    found: dict[tuple[str, Ranks], Choice] = {}
    for name in layer.methods:
        method, tails = layer.method(name)
        for rung in method.rungs(layer.site.whole, tails):
            ranks = _rounded(layer, name, rung, multiple)
            if (name, ranks) not in found:
                found[name, ranks] = layer.choice(name, ranks)
    return list(found.values())


def _rank(layer: Layer, name: str, rule: str, config: FactorizeConfig) -> Ranks | None:
    method, tails = layer.method(name)
    whole = layer.site.whole
    if rule == "energy":
        ranks = method.at_loss(whole, tails, 1 - config.energy)
    elif rule == "share":
        ranks = tuple(max(round(config.share * full), 1) for full in method.full(whole))
    else:
        counts = [_signal(tail, matrix.square().sum().item(), matrix.shape)
                  for tail, matrix in zip(tails, method.unfoldings(whole), strict=True)]  # fmt: skip
        if not all(counts):
            return None
        ranks = method.of_unfoldings(counts)
    return _rounded(layer, name, ranks, config.multiple or 1)


def _signal(tail: Floats, total: float, shape: Sequence[int]) -> int:
    """Return the rank by VBMF of the matrix whose squared norm `total` falls off as `tail` says."""
    squares = (tail[:-1] - tail[1:]).clip(min=0) * total
    return vbmf_rank(squares**0.5, shape[0], shape[1])


def _rounded(layer: Layer, name: str, ranks: Ranks, multiple: int) -> Ranks:
    full = methods.get(name).full(layer.site.whole)
    return tuple(min(-(-rank // multiple) * multiple, most) for rank, most in zip(ranks, full, strict=True))


def _by_hand(layer: Layer, ranks: Ranks) -> list[Choice]:
    """Return one choice for each method that ranks set by hand suit; raise `ConfigError` where they suit none."""
    found: list[Choice] = []
    problems: list[str] = []
    for name in layer.methods:
        try:
            found.append(layer.choice(name, _given(layer, name, ranks)))
        except ConfigError as error:
            problems += error.problems
    if problems and not found:
        raise ConfigError(problems)
    return found


def _given(layer: Layer, name: str, ranks: Ranks) -> Ranks:
    """Return ranks set by hand for a method; raise `ConfigError` where they are none for this layer."""
    full = methods.get(name).full(layer.site.whole)
    ranks = ranks * len(full) if len(ranks) == 1 else ranks
    path = layer.site.path
    if len(ranks) != len(full):
        raise ConfigError(f"factorize: ranks of {path!r}: {name} takes {len(full)}, got {len(ranks)}")
    if any(rank > most for rank, most in zip(ranks, full, strict=True)):
        shown = ["x".join(str(rank) for rank in each) for each in (ranks, full)]
        raise ConfigError(f"factorize: rank {shown[0]} of {path!r} by {name} is above its full rank {shown[1]}")
    return ranks


def within(
    layers: Sequence[Layer],
    choices: Sequence[Sequence[Choice]],
    kind: str,
    limit: float,
    rest: float,
    time: LayerTime | None,
) -> list[Choice | None]:
    """Return for each layer the choice (None: whole) so that all costs with `rest` stay within `limit`.

    The product of the shares of squared norm that the layers keep is as large as possible (Zhang et al., "Accelerating
    Very Deep Convolutional Networks for Classification and Detection", 2015). A sum of losses takes a layer that keeps
    nothing of its input for no worse than ten that each lose a tenth. Raises `ImpossibleBudgetError` with the closest
    reachable cost and what binds it.
    """
    options = [
        [Option(layer.cost(kind, layer.site.whole.chain, time), 0.0)]
        + [Option(layer.cost(kind, c.chain, time), -log(max(1 - c.loss, LEAST_KEPT))) for c in own]
        for layer, own in zip(layers, choices, strict=True)
    ]
    try:
        taken = allocate(options, limit - rest)
    except OverBudgetError as error:
        least = {layer.site.path: min(o.cost for o in own) for layer, own in zip(layers, options, strict=True)}
        most = sorted(least, key=lambda path: -least[path])[:3]
        binding = ", ".join(most) if sum(least.values()) > rest else "layers that stay whole"
        raise ImpossibleBudgetError(
            f"this budget cannot be met by factorizing: {kind} {limit:.6g} (closest reachable: about "
            f"{error.least + rest:.6g}, most of it in {binding})"
        ) from None
    return [own[number - 1] if number else None for own, number in zip(choices, taken, strict=True)]
