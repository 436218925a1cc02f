"""The search itself: which candidates are looked at, in which order; what they cost and how good they are.

Costs are cheap and asked first: a candidate above the budget is never scored, and is none of the number of trials that
was asked for. Where all combinations fit into that number, all are tried; else optuna's tree-structured Parzen
estimator proposes them (Bergstra et al. 2011; with two objectives, score and cost, and the budget as a constraint:
Ozaki et al. 2020).

What is proposed is a function of the seed and of the trials so far. So a list of trials is the whole state, and a
search that was stopped goes on as if it had not been, without a database.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepress.core.config import STRICT
from edgepress.core.errors import MissingExtraError
from edgepress.cost.budget import ImpossibleBudgetError
from edgepress.search.space import Candidate, Space

STARTUP = 8
"""Random trials before anything is learned from them."""
LOOKS = 10
"""Candidates weighed for each that is to be scored, where most are above the budget."""
REFUSALS = 20
"""Proposals seen before that are thrown away before an unseen candidate is drawn at random."""


@dataclass(frozen=True)
class Trial:
    """A candidate, what it takes by kind of cost, and its score, higher is better (None: above the budget)."""

    __pydantic_config__ = STRICT

    candidate: Candidate
    costs: dict[str, float]
    score: float | None


def explore(
    space: Space,
    limits: dict[str, float],
    weigh: Callable[[Candidate], dict[str, float]],
    judge: Callable[[Candidate], float],
    trials: int,
    seed: int,
    known: Sequence[Trial] = (),
    keep: Callable[[list[Trial]], None] = lambda trials: None,
) -> list[Trial]:
    """Return the trials, those already `known` first, until `trials` of them have a score or there is no more to try.

    `weigh` gives the costs of a candidate, at least those in `limits`; `judge` its score. `keep` is called with the
    list after each trial. Raises `ImpossibleBudgetError` where none is within the limits.
    """
    found = list(known)
    everything = list(space) if len(space) <= trials else []
    most = min(LOOKS * trials, len(space))
    while len(found) < most and sum(trial.score is not None for trial in found) < trials:
        candidate = everything[len(found)] if everything else _propose(space, limits, found, seed)
        costs = weigh(candidate)
        within = all(costs[kind] <= limit for kind, limit in limits.items())
        found.append(Trial(candidate, costs, judge(candidate) if within else None))
        keep(found)
    if all(trial.score is None for trial in found):
        nearest = min(found, key=lambda t: max(t.costs[kind] / limit for kind, limit in limits.items()))
        shown = ", ".join(f"{k} {nearest.costs[k]:.6g} for a limit of {v:.6g}" for k, v in limits.items())
        raise ImpossibleBudgetError(
            f"none of {len(found)} networks is within the budget; closest: {nearest.candidate.word}, {shown}"
        )
    return found


def front(trials: Sequence[Trial], kind: str) -> list[Trial]:
    """Return the trials that no other beats in score without costing more of `kind`, the cheapest first."""
    best: list[Trial] = []
    scored = [trial for trial in trials if trial.score is not None]
    for trial in sorted(scored, key=lambda t: (t.costs[kind], -(t.score or 0.0))):
        if not best or (trial.score or 0.0) > (best[-1].score or 0.0):
            best.append(trial)
    return best


def _propose(space: Space, limits: dict[str, float], found: Sequence[Trial], seed: int) -> Candidate:
    """Return a candidate not among `found`."""
    seen = {trial.candidate.word for trial in found}
    rng = np.random.default_rng([seed, len(found)])
    if len(found) >= STARTUP:
        proposed = _learned(space, limits, found, seed, seen)
        if proposed:
            return proposed
    while True:
        candidate = space.picked({name: int(rng.integers(size)) for name, size in space.sizes().items()})
        if candidate.word not in seen:
            return candidate


def _learned(
    space: Space, limits: dict[str, float], found: Sequence[Trial], seed: int, seen: set[str]
) -> Candidate | None:
    """Return an unseen candidate that the estimator proposes after `found`, None where it repeats itself."""
    try:
        import optuna
    except ModuleNotFoundError:
        raise MissingExtraError("searching through more networks than there are trials (optuna)", "sweep") from None
    spread: dict[str, Any] = {
        name or "model": optuna.distributions.CategoricalDistribution(range(size)) if not name
        else optuna.distributions.IntDistribution(0, size - 1)
        for name, size in space.sizes().items()
    }  # fmt: skip
    worst = min(trial.score for trial in found if trial.score is not None) if _any_score(found) else 0.0
    kind = next(iter(limits))

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        fresh = (seed * 100_003 + len(found)) % 2**32  # NumPy takes no larger one
        sampler = optuna.samplers.TPESampler(seed=fresh, n_startup_trials=0)
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        for trial in found:
            params = {name or "model": number for name, number in space.numbers(trial.candidate).items()}
            excess = max(trial.costs[k] / limit - 1 for k, limit in limits.items())
            study.add_trial(
                optuna.trial.create_trial(
                    params=params,
                    distributions=spread,
                    values=[worst if trial.score is None else trial.score, trial.costs[kind]],
                    constraints={"budget": excess},
                )
            )
        for _ in range(REFUSALS):
            asked = study.ask(spread).params
            candidate = space.picked({"" if name == "model" else name: int(n) for name, n in asked.items()})
            if candidate.word not in seen:
                return candidate
    finally:
        optuna.logging.set_verbosity(level)
    return None


def _any_score(trials: Sequence[Trial]) -> bool:
    return any(trial.score is not None for trial in trials)
