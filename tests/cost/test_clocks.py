"""Clocks: what a layer takes on each runtime, and a budget in milliseconds that is met on that runtime."""

from pathlib import Path

import pytest
from torch import nn

from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec
from edgepress.cost import measure
from edgepress.cost.budget import Budget
from edgepress.cost.clock import export_file, time_files
from edgepress.cost.clocks.base import clocks
from edgepress.cost.shapes import Shape
from edgepress.prune.config import PruneConfig
from edgepress.prune.prune import prune_

CONV = Shape("conv", 32, 32, (3, 3), (1, 1), (1, 1), (1, 1))


@pytest.mark.parametrize("name", list(clocks))
def test_more_work_takes_more_time(name: str) -> None:
    clock = clocks.get(name)()
    narrow, wide = (clock.layer_ms(CONV, width, width, 1, 1) for width in (16, 128))
    assert 0 < 4 * narrow < wide  # 64 times the products
    assert clock.layer_ms(CONV, 16, 16, 1, 8) > narrow
    assert clock.layer_ms(Shape("linear", 1, 1), 1024, 1024, 1, 1) > 0
    depthwise = Shape("conv", 32, 32, (3, 3), (1, 1), (1, 1), (1, 1), "depthwise")
    assert 0 < clock.layer_ms(depthwise, 128, 128, 1, 1) < wide
    assert clock.layer_ms(Shape("norm", 32, 32), 16, 16, 1, 1) == 0


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "onnxruntime" else pytest.mark.slow) for n in clocks]
)
def test_a_time_is_met_on_the_runtime_it_was_asked_for(tmp_path: Path, name: str) -> None:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    signature = Signature("classification", InputSpec(24, 24), tuple("abcdefghij"))
    # Against the time that pruning itself measures: one measured here may be of a slower moment of the machine.
    budget = Budget(speedup=1 / 0.6, runtime=name)
    report = prune_(module, signature, budget, PruneConfig(score="l2", minimum=1), cache=tmp_path)
    assert report.after["latency_ms"] <= report.before["latency_ms"] * 0.6 * 1.01
    assert report.notes["layers_timed"] > 0
    assert list(tmp_path.glob("layer-times/*.json"))


def test_a_machine_that_became_slower_makes_no_network_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    signature = Signature("classification", InputSpec(8, 8), tuple("abcdefghij"))
    monkeypatch.setattr(measure, "time_files", lambda files, *how: [3.0, 4.0])  # in turns with the file that took 2
    monkeypatch.setattr(measure, "PAUSE", 0)
    beside = measure.Yardstick(b"", 2.0)
    assert measure.measured(module, signature, "latency_ms", Budget(latency_ms=1.0), beside) == 1.5
    assert measure.measured(module, signature, "params", Budget(params=1), beside) == 1930


def test_files_are_timed_in_turns_and_told_in_their_order() -> None:
    signature = Signature("classification", InputSpec(32, 32), tuple("abcdefghij"))
    files = [
        export_file(nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                  nn.Linear(width, 10)), signature)
        for width in (4, 256)
    ]  # fmt: skip
    small, large = time_files(files, signature, "onnxruntime", 1, 1, seconds=0.1)
    assert 0 < 2 * small < large
