"""Allocating a budget over sites and blocks: what goes first is what loses least for each unit of budget it saves.

The shared `core.allocate` takes sites whose costs add up. Here they do not: a layer costs the product of its two
widths, which belong to two sites. So the choice is made step by step, each with the costs that the steps before left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from edgepress.cost.budget import ImpossibleBudgetError
from edgepress.prune.config import Scope
from edgepress.prune.cost import CostModel
from edgepress.prune.graph import Site

MOST_LEVELS = 64
"""Widths that are considered for one site."""


@dataclass(frozen=True)
class Plan:
    """How many units go from each site, those of the least score first, and which blocks."""

    gone: tuple[int, ...]
    dropped: frozenset[int] = frozenset()


def levels(model: CostModel, minimum: int, multiple: int) -> list[list[int]]:
    """Return, for each site, how many units may go: widths are multiples of `multiple` and at least `minimum`.

    The full width is always allowed. Heads are counted one by one.
    """
    found: list[list[int]] = []
    for site in model.sites:
        count = len(site.units)
        size = site.width / count
        if site.kind == "heads":
            found.append(list(range(count)))
            continue
        kept = [n for n in range(1, count) if n * size >= minimum and round(n * size) % multiple == 0]
        if len(kept) > MOST_LEVELS:
            kept = [kept[round(k * (len(kept) - 1) / (MOST_LEVELS - 1))] for k in range(MOST_LEVELS)]
        found.append([0, *sorted(count - n for n in set(kept))])
    return found


def order(site: Site, values: Tensor, minimum: int) -> tuple[list[int], int]:
    """Return the units of `site` in the order they go, and how many may go.

    Every layer of the site keeps `minimum` channels: where maps are concatenated, a site holds several layers, and one
    of low scores could otherwise lose all it has. An attention keeps one head.
    """
    kept: set[int] = set()
    for member in site.members:
        own = member.units.unique()
        need = 1 if site.kind == "heads" else -(-minimum * len(own) // len(member.positions))
        kept.update(own[values[own].argsort(descending=True, stable=True)][:need].tolist())
    ranked: list[int] = values.argsort(stable=True).tolist()
    free = [unit for unit in ranked if unit not in kept]
    return free + [unit for unit in ranked if unit in kept], len(free)


def solve(
    model: CostModel, losses: Sequence[Tensor], limits: dict[str, float], allowed: list[list[int]], scope: Scope
) -> Plan:
    """Return the plan under all `limits` that loses least by `losses` (in the order units go, a tensor per site).

    Raises `ImpossibleBudgetError` with the closest reachable values.
    """
    _check(model, limits, allowed, with_blocks=scope == "global")
    if scope == "layer":
        return _even(model, limits, allowed)
    return _Greedy(model, losses, limits, allowed).run()


def _check(model: CostModel, limits: dict[str, float], allowed: list[list[int]], with_blocks: bool) -> None:
    most = [options[-1] for options in allowed]
    dropped = frozenset(range(len(model.blocks))) if with_blocks else frozenset[int]()
    least = {kind: model.total(kind, most, dropped) for kind in limits}
    wrong = [
        f"{kind} {limit:.6g} (closest reachable: about {least[kind]:.6g}, most of it in {binding(model, kind, most)})"
        for kind, limit in limits.items()
        if least[kind] > limit
    ]
    if wrong:
        raise ImpossibleBudgetError(f"this budget cannot be met by pruning: {', '.join(wrong)}")


def binding(model: CostModel, kind: str, gone: Sequence[int]) -> str:
    """Return the layers that cost most once all is gone that may go."""
    inside = frozenset[int]().union(*model.inside)
    costs = {layer.path: model.layer_cost(k, kind, gone) for k, layer in enumerate(model.layers) if k not in inside}
    return ", ".join(sorted(costs, key=lambda path: -costs[path])[:3]) or "what surrounds the layers"


def _even(model: CostModel, limits: dict[str, float], allowed: list[list[int]]) -> Plan:
    """Return the plan that takes the same share of every site, as small as the limits allow."""
    plan = Plan(tuple(0 for _ in allowed))
    for part in range(257):
        plan = Plan(
            tuple(
                _nearest(options, part / 256 * len(site.units))
                for options, site in zip(allowed, model.sites, strict=True)
            )
        )
        if all(model.total(kind, plan.gone) <= limit for kind, limit in limits.items()):
            break
    return plan


def _nearest(options: Sequence[int], wanted: float) -> int:
    return min(options, key=lambda count: abs(count - wanted))


@dataclass(frozen=True)
class Excess:
    """By how much a cost is above its limit."""

    excess: float
    limit: float


@dataclass(frozen=True)
class _Step:
    ratio: float
    level: int = 0
    block: int = -1


class _Greedy:
    """The state of an allocation in progress."""

    def __init__(
        self, model: CostModel, losses: Sequence[Tensor], limits: dict[str, float], allowed: list[list[int]]
    ) -> None:
        self.model, self.limits, self.allowed = model, limits, allowed
        self.sums = [[0.0, *loss.double().cumsum(0).tolist()] for loss in losses]
        self.gone = [0] * len(model.sites)
        self.dropped: set[int] = set()
        self.dead: set[int] = set()
        self.costs = {kind: [model.layer_cost(k, kind, self.gone) for k in range(len(model.layers))] for kind in limits}
        self.total = {kind: sum(costs) + model.rest.get(kind, 0.0) for kind, costs in self.costs.items()}
        self.memory: dict[tuple[str, int, int, int], float] = {}
        self.inside = {site: b for b, block in enumerate(model.blocks) for site in block.sites}

    def run(self) -> Plan:
        """Take the best step until the budget is met."""
        best: dict[int, _Step | None] = {}
        stale = set(range(len(self.allowed)))
        while over := self._over():
            for site in stale if len(over) == len(self.limits) == 1 else range(len(self.allowed)):
                best[site] = self._best(site, over)
            # What a step is worth depends on what is still needed: near the end all are looked at again.
            steps = [(s.ratio, site, s) for site, s in best.items() if s is not None]
            steps += [(s.ratio, -1 - b, s) for b in range(len(self.model.blocks)) if (s := self._block(b, over))]
            if not steps:
                most = ", ".join(
                    f"{kind} {self.total[kind]:.6g}, in {binding(self.model, kind, self.gone)}" for kind in over
                )
                raise ImpossibleBudgetError(f"this budget cannot be met by pruning: nothing is left to take ({most})")
            _, site, step = min(steps, key=lambda s: (s[0], s[1]))
            stale = self._take(site, step)
            if any(self.total[k] - self.limits[k] < 0.1 * self.limits[k] for k in self.limits):
                stale = set(range(len(self.allowed)))
        return Plan(tuple(self.gone), frozenset(self.dropped))

    def _over(self) -> dict[str, Excess]:
        return {k: Excess(self.total[k] - v, v) for k, v in self.limits.items() if self.total[k] > v}

    def _cost(self, kind: str, number: int, gone: Sequence[int]) -> float:
        inputs, outputs = self.model.layers[number].widths(gone)
        key = (kind, number, inputs, outputs)
        if key not in self.memory:
            self.memory[key] = self.model.layer_cost(number, kind, gone)
        return self.memory[key]

    def _best(self, site: int, over: dict[str, Excess]) -> _Step | None:
        """Return the step of one site that loses least for what it saves."""
        if self.inside.get(site) in self.dropped:
            return None
        found: _Step | None = None
        gone = list(self.gone)
        layers = [k for k in self.model.touching[site] if k not in self.dead]
        for level in self.allowed[site]:
            if level <= self.gone[site]:
                continue
            gone[site] = level
            saved = {kind: sum(self.costs[kind][k] - self._cost(kind, k, gone) for k in layers) for kind in self.limits}
            loss = self.sums[site][level] - self.sums[site][self.gone[site]]
            step = _worth(loss, saved, over, level=level)
            if step and (found is None or step.ratio < found.ratio):
                found = step
        return found

    def _block(self, number: int, over: dict[str, Excess]) -> _Step | None:
        if number in self.dropped:
            return None
        sites = self.model.blocks[number].sites
        # A branch is cut off where its weakest site is: nothing gets through a width of zero.
        loss = min(self.sums[site][-1] - self.sums[site][self.gone[site]] for site in sites)
        saved = {kind: sum(self.costs[kind][k] for k in self.model.inside[number]) for kind in self.limits}
        return _worth(loss, saved, over, block=number)

    def _take(self, site: int, step: _Step) -> set[int]:
        """Do `step`; return the sites whose steps are worth something else now."""
        if step.block >= 0:
            self.dropped.add(step.block)
            self.dead |= self.model.inside[step.block]
            layers = self.model.inside[step.block]
        else:
            self.gone[site] = step.level
            layers = frozenset(self.model.touching[site])
        for kind in self.limits:
            for k in layers:
                cost = 0.0 if k in self.dead else self._cost(kind, k, self.gone)
                self.total[kind] += cost - self.costs[kind][k]
                self.costs[kind][k] = cost
        return {s for s, touched in enumerate(self.model.touching) if layers & set(touched)}


def _worth(
    loss: float, saved: dict[str, float], over: dict[str, Excess], level: int = 0, block: int = -1
) -> _Step | None:
    """Return a step with its loss per share of the budget it saves; saving more than is needed counts nothing."""
    share = sum(min(saved[kind], need.excess) / need.limit for kind, need in over.items())
    return _Step(loss / share, level, block) if share > 1e-9 else None
