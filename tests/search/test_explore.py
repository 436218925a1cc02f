"""The search on functions in place of networks: it keeps to the budget, finds what is good, goes on where it was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.cost.budget import ImpossibleBudgetError
from edgepress.search.explore import Trial, explore, front
from edgepress.search.space import Candidate, Space

WIDE = Space(("a", "b"), {"width": tuple(range(1, 33)), "depth": (1, 2, 3, 4)})


def weigh(candidate: Candidate) -> dict[str, float]:
    return {"macs": candidate.arguments["width"] ** 2 * candidate.arguments["depth"]}


def judge(candidate: Candidate) -> float:
    width, depth = candidate.arguments["width"], candidate.arguments["depth"]
    return (10.0 if candidate.model == "b" else 0.0) + width**0.5 - abs(depth - 3)


LIMITS = {"macs": 1200.0}


def run(trials: int, seed: int = 0, **more: Any) -> list[Trial]:
    return explore(WIDE, LIMITS, weigh, judge, trials, seed, **more)


def test_it_learns_where_the_good_ones_are() -> None:
    pytest.importorskip("optuna")
    trials = run(40)
    words = [trial.candidate.word for trial in trials]
    assert len(set(words)) == len(words), "no candidate twice"
    assert len([trial for trial in trials if trial.score is not None]) == 40 < len(words), "what costs too much is none"
    assert all((trial.score is None) == (trial.costs["macs"] > 1200) for trial in trials)
    best = max(trial.score for trial in trials if trial.score is not None)
    everything = [judge(c) for c in WIDE if weigh(c)["macs"] <= 1200]
    assert sum(score > best for score in everything) <= 3, "among the best of 256"
    late = [trial.candidate.model for trial in trials[20:]]
    assert late.count("b") >= 14, "what is learned is used"


def test_a_stopped_search_goes_on_as_if_it_had_not_been() -> None:
    pytest.importorskip("optuna")
    whole = run(16)
    kept: list[list[Trial]] = []

    class Killed(Exception):
        pass

    def keep(trials: list[Trial]) -> None:
        kept.append(list(trials))
        if len(trials) == 11:
            raise Killed

    with pytest.raises(Killed):
        run(16, keep=keep)
    assert len(kept[-1]) == 11
    assert run(16, known=kept[-1]) == whole
    assert run(16, seed=1) != whole


def test_a_small_space_is_tried_whole_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    space = Space(("b",), {"width": (4, 8), "depth": (1, 2, 3)})
    trials = explore(space, LIMITS, weigh, judge, 50, 0)
    assert [trial.candidate for trial in trials] == list(space)


def test_a_budget_below_everything_names_the_closest() -> None:
    with pytest.raises(ImpossibleBudgetError, match=r"none of 40 networks .* closest: .*macs \d+ for a limit of 0.5"):
        explore(WIDE, {"macs": 0.5}, weigh, judge, 4, 0)


@given(st.lists(st.tuples(st.integers(1, 20), st.none() | st.integers(0, 20)), min_size=1))
def test_the_front_holds_exactly_what_nothing_beats(points: list[tuple[int, int | None]]) -> None:
    trials = [Trial(Candidate(str(n)), {"macs": c}, s) for n, (c, s) in enumerate(points)]
    scored = [t for t in trials if t.score is not None]
    found = front(trials, "macs")
    for trial in scored:
        better = [o for o in scored if o.costs["macs"] <= trial.costs["macs"] and o.score >= trial.score]
        beaten = any((o.costs["macs"], o.score) != (trial.costs["macs"], trial.score) for o in better)
        same = [o for o in found if (o.costs["macs"], o.score) == (trial.costs["macs"], trial.score)]
        assert len(same) == (0 if beaten else 1)


@pytest.mark.parametrize(
    ("models", "values", "words"),
    [
        ((), {}, "at least one network"),
        (("a",), {"width": ()}, "'width' has no values"),
        (("a", "a"), {}, "'models' names \"a\" twice"),
        (("a",), {"width": (1, 2, 1)}, "'width' names 1 twice"),
        (("a",), {str(n): tuple(range(100)) for n in range(4)}, "more than 1000000"),
    ],
)
def test_spaces_that_make_no_sense(models: Any, values: Any, words: str) -> None:
    assert any(words in problem for problem in Space(models, values).problems())
