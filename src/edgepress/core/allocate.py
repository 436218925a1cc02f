"""Allocating a budget over sites: what pruning, factorizing and quantizing share between scoring and cutting.

Each site (a layer, a group of channels) has options; an option costs something in the user's unit (bytes, MACs,
milliseconds) and loses something of the score. One option per site is taken, so that the losses add up to as little
as possible and the costs fit the budget: the multiple-choice knapsack problem (Kellerer et al. 2004, chapter 11).
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import EdgepressError

MOST_STATES = 20_000
"""Partial choices kept side by side. Where more are still open, those with the best bounds are: the result is then
as good as the bounds, no longer proven to be the best."""

SLACK = 1e-9
"""Share of the budget that sums of floating-point costs may exceed it by."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Option:
    """One choice for a site: its `cost` in the unit of the budget, and the `loss` of score it is expected to bring."""

    cost: float
    loss: float


class OverBudgetError(EdgepressError):
    """Even the cheapest options together cost more than the budget; `least` is what they cost."""

    exit_code = 2

    def __init__(self, budget: float, least: float) -> None:
        self.budget, self.least = budget, least
        super().__init__(f"a budget of {budget:.10g} cannot be met: the cheapest choice everywhere costs {least:.10g}")


def allocate(sites: Sequence[Sequence[Option]], budget: float) -> list[int]:
    """Return the index of the option to take at each site: the least sum of losses whose costs fit `budget`.

    Ties go to the lower cost. Costs and losses may be negative, not infinite. Raises `OverBudgetError` where nothing
    fits, `ValueError` for a site without options or numbers that are not finite.
    """
    if not isfinite(budget):
        raise ValueError(f"the budget must be a finite number, got {budget}")
    for position, options in enumerate(sites):
        if not options:
            raise ValueError(f"site {position} has no options")
        if not all(isfinite(o.cost) and isfinite(o.loss) for o in options):
            raise ValueError(f"site {position} has an option whose cost or loss is not finite: {options}")
    if not sites:
        return []
    least = sum(min(o.cost for o in options) for options in sites)
    room = budget + SLACK * abs(budget)
    if least > room:
        raise OverBudgetError(budget, least)
    frontiers = [_frontier(options) for options in sites]
    costs = [np.array([options[i].cost for i in kept]) for options, kept in zip(sites, frontiers, strict=True)]
    losses = [np.array([options[i].loss for i in kept]) for options, kept in zip(sites, frontiers, strict=True)]
    chosen = _search(costs, losses, room)
    return [kept[i] for kept, i in zip(frontiers, chosen, strict=True)]


def _frontier(options: Sequence[Option]) -> list[int]:
    """Return the options worth a thought, by rising cost and falling loss."""
    kept: list[int] = []
    for i in sorted(range(len(options)), key=lambda i: (options[i].cost, options[i].loss, i)):
        if not kept or options[i].loss < options[kept[-1]].loss:
            kept.append(i)
    return kept


def _hull(cost: Floats, loss: Floats) -> list[int]:
    """Return the options on the lower convex hull of a frontier: each step's gain per cost is less than the last's."""
    hull: list[int] = []
    for i in range(len(cost)):
        while len(hull) > 1:
            a, b = hull[-2:]
            if (loss[a] - loss[b]) * (cost[i] - cost[b]) > (loss[b] - loss[i]) * (cost[b] - cost[a]):
                break
            hull.pop()
        hull.append(i)
    return hull


def _bounds(costs: list[Floats], losses: list[Floats]) -> list[tuple[Floats, Floats]]:
    """Return, for the sites from k on, the least loss of the relaxed problem as a curve over the budget.

    Where options may be mixed in fractions, taking the steps of all hulls by gain per cost is best: a convex curve.
    """
    curves = [(np.zeros(1), np.zeros(1))]
    steps: list[tuple[float, float]] = []  # (cost, gain) of each step, best gain per cost first
    start_cost = start_loss = 0.0
    for cost, loss in zip(reversed(costs), reversed(losses), strict=True):
        hull = _hull(cost, loss)
        own = [(float(cost[b] - cost[a]), float(loss[a] - loss[b])) for a, b in pairwise(hull)]
        steps = list(heapq.merge(steps, own, key=lambda s: -s[1] / s[0]))
        start_cost, start_loss = start_cost + float(cost[0]), start_loss + float(loss[0])
        table = np.array([(0.0, 0.0), *steps]).cumsum(0)
        curves.append((start_cost + table[:, 0], start_loss - table[:, 1]))
    return curves[::-1]


def _greedy(costs: list[Floats], losses: list[Floats], room: float) -> float:
    """Return the loss of a good choice that fits: steps along the hulls, then the best single steps that still fit."""
    taken = [0] * len(costs)
    room -= sum(float(cost[0]) for cost in costs)
    queue = [
        (-float((loss[a] - loss[b]) / (cost[b] - cost[a])), site, a, b)
        for site, (cost, loss) in enumerate(zip(costs, losses, strict=True))
        for hull in [_hull(cost, loss)]
        for a, b in pairwise(hull)
    ]
    for _, site, a, b in sorted(queue):
        price = float(costs[site][b] - costs[site][a])
        if taken[site] == a and price <= room:
            taken[site], room = b, room - price
    while True:
        gain, site, option = max(
            (float(losses[s][taken[s]] - losses[s][i]), s, i)
            for s in range(len(costs))
            for i in range(taken[s], len(costs[s]))
            if costs[s][i] - costs[s][taken[s]] <= room
        )
        if gain <= 0:
            return sum(float(loss[i]) for loss, i in zip(losses, taken, strict=True))
        room -= float(costs[site][option] - costs[site][taken[site]])
        taken[site] = option


def _search(costs: list[Floats], losses: list[Floats], room: float) -> list[int]:
    """Go through the sites with all partial choices that may still win: dynamic programming with bounds."""
    curves = _bounds(costs, losses)
    limit = _greedy(costs, losses, room)
    limit += 1e-9 * max(1.0, abs(limit))  # sums in another order
    cost, loss = np.zeros(1), np.zeros(1)
    history: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for own_cost, own_loss, (rest_cost, rest_loss) in zip(costs, losses, curves[1:], strict=True):
        before = np.repeat(np.arange(len(cost)), len(own_cost))
        option = np.tile(np.arange(len(own_cost)), len(cost))
        cost, loss = cost[before] + own_cost[option], loss[before] + own_loss[option]
        left = room - cost
        bound = loss + np.interp(left, rest_cost, rest_loss)
        open_ = np.flatnonzero((left >= rest_cost[0] - 1e-12 * abs(room)) & (bound <= limit))
        open_ = open_[np.lexsort((loss[open_], cost[open_]))]
        earlier = np.concatenate(([np.inf], np.minimum.accumulate(loss[open_])[:-1]))
        open_ = open_[loss[open_] < earlier]
        if len(open_) > MOST_STATES:
            open_ = np.sort(open_[np.argpartition(bound[open_], MOST_STATES)[:MOST_STATES]])
        cost, loss = cost[open_], loss[open_]
        history.append((before[open_], option[open_]))
    state = int(np.lexsort((cost, loss))[0])
    chosen: list[int] = []
    for before, option in reversed(history):
        chosen.append(int(option[state]))
        state = int(before[state])
    return chosen[::-1]
