"""The allocation is the best there is, or says that there is none."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.core import allocate as module
from edgepress.core.allocate import Option, OverBudgetError, allocate

whole = st.builds(Option, st.integers(0, 30).map(float), st.integers(0, 30).map(float))
real = st.builds(Option, st.floats(-5, 50, allow_nan=False, width=32), st.floats(-5, 5, allow_nan=False, width=32))
problems = st.one_of(
    [st.lists(st.lists(options, min_size=1, max_size=5), min_size=1, max_size=5) for options in (whole, real)]
)


def brute(sites: list[list[Option]], budget: float) -> float:
    fitting = [
        math.fsum(o.loss for o in choice)
        for choice in itertools.product(*sites)
        if sum(o.cost for o in choice) <= budget + module.SLACK * abs(budget)
    ]
    return min(fitting, default=math.inf)


def total(sites: list[list[Option]], chosen: list[int]) -> tuple[float, float]:
    taken = [options[i] for options, i in zip(sites, chosen, strict=True)]
    return sum(o.cost for o in taken), math.fsum(o.loss for o in taken)


@settings(max_examples=300, deadline=None)
@given(problems, st.integers(-10, 150))
def test_no_other_choice_is_better(sites: list[list[Option]], budget: int) -> None:
    best = brute(sites, budget)
    if math.isinf(best):
        with pytest.raises(OverBudgetError):
            allocate(sites, budget)
        return
    cost, loss = total(sites, allocate(sites, budget))
    assert cost <= budget + 1e-6 and loss == pytest.approx(best, abs=1e-6)


def test_a_large_problem_is_solved_close_to_its_bound_and_fast() -> None:
    rng = np.random.default_rng(0)
    sites = [
        [Option(float(n * b), float(w * 4.0**-b)) for b in range(2, 9)]
        for n, w in zip(rng.integers(100, 40_000, 150), rng.lognormal(0, 2, 150), strict=True)
    ]
    budget = 0.45 * sum(options[-1].cost for options in sites)
    cost, loss = total(sites, allocate(sites, budget))
    uniform = sum(options[1].loss for options in sites)  # 3 bits everywhere: 0.375 of the highest cost
    assert 0.999 * budget < cost <= budget and loss < 0.5 * uniform


def test_few_states_still_give_a_choice_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    sites = [[Option(*map(float, rng.random(2))) for _ in range(6)] for _ in range(12)]
    best = total(sites, allocate(sites, 3.0))[1]
    monkeypatch.setattr(module, "MOST_STATES", 3)
    cost, loss = total(sites, allocate(sites, 3.0))
    assert cost <= 3.0 and best <= loss <= 1.2 * best


def test_ties_go_to_the_cheaper_option() -> None:
    assert allocate([[Option(3, 1), Option(1, 1), Option(2, 1)]], 10) == [1]


def test_an_impossible_budget_says_what_is_possible() -> None:
    with pytest.raises(OverBudgetError, match=r"a budget of 5 cannot be met: .* costs 7"):
        allocate([[Option(4, 0), Option(9, 0)], [Option(3, 0)]], 5)


@pytest.mark.parametrize(
    ("sites", "budget"),
    [([[]], 1), ([[Option(math.nan, 0)]], 1), ([[Option(0, math.inf)]], 1), ([[Option(0, 0)]], math.nan)],
)
def test_numbers_that_mean_nothing_are_refused(sites: list[list[Option]], budget: float) -> None:
    with pytest.raises(ValueError, match=r"finite|no options"):
        allocate(sites, budget)


def test_no_sites_need_nothing() -> None:
    assert allocate([], 0) == []
