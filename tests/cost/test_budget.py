"""Budgets say what is wrong with them, and energy is the time it stands for."""

import math
from typing import Any

import pytest

from edgepress.cost.budget import Budget


def test_energy_is_time_times_watts() -> None:
    assert Budget(energy_mj=6.0, watts=12.0).limits == {"latency_ms": 0.5}
    assert Budget(energy_mj=6.0, watts=12.0, latency_ms=0.3, macs=10).limits == {"latency_ms": 0.3, "macs": 10}
    assert Budget(energy_mj=6.0, watts=12.0, latency_ms=0.7).problems() == []


def test_a_step_on_the_way_to_an_energy_is_not_the_end_of_the_way() -> None:
    half = Budget(energy_mj=6.0, watts=12.0).toward({"latency_ms": 1.5}, 0.5)
    assert half.limits == {"latency_ms": 1.0} and half.problems() == []


def test_a_speedup_is_a_share_of_the_time_of_the_network_given() -> None:
    asked = Budget(speedup=4.0, macs=10)
    assert asked.problems() == [] and asked.given == ["macs", "latency_ms"]
    assert asked.from_time(2.0).limits == {"macs": 10, "latency_ms": 0.5}
    assert Budget(speedup=4.0, latency_ms=0.3).from_time(2.0).limits == {"latency_ms": 0.3}
    assert Budget(speedup=4.0, energy_mj=9.0, watts=10.0).from_time(2.0).limits == {"latency_ms": 0.5}
    assert Budget(latency_ms=0.3).from_time(2.0) == Budget(latency_ms=0.3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "give at least one limit of params, macs, bytes, latency_ms, speedup, energy_mj"),
        ({"energy_mj": 3.0}, "'energy_mj' and 'watts' belong together"),
        ({"latency_ms": 3.0, "watts": 5.0}, "'energy_mj' and 'watts' belong together"),
        ({"energy_mj": 3.0, "watts": 0.0}, "watts must be a number above 0, got 0"),
        ({"energy_mj": -3.0, "watts": 5.0}, "energy_mj must be a number above 0, got -3"),
        ({"speedup": 1.0}, "speedup must be above 1 (2: half the time of a call), got 1"),
        ({"speedup": -2.0}, "speedup must be a number above 0, got -2"),
        ({"latency_ms": math.inf}, "latency_ms must be a number above 0, got inf"),
        ({"macs": 5, "threads": 0}, "threads must be at least 1, got 0"),
        (
            {"macs": 5, "runtime": "ncnn"},
            "times on runtime 'ncnn' are not possible here, on these they are: onnxruntime, o",
        ),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in Budget(**fields).problems())
