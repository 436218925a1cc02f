"""FastNAS by ModelOpt: a narrower network of ours, within the budget, that is saved and loaded like any other."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress.core.errors import MissingExtraError
from edgepress.cost.budget import Budget, ImpossibleBudgetError
from edgepress.models.count import count_macs
from edgepress.models.predictor import TorchPredictor
from edgepress.models.structure import load_model, save_model
from edgepress.prune.fastnas import fastnas
from edgepress.prune.stages import FastNas
from prune.helpers import small


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def test_what_it_cannot_be_asked_for_is_said() -> None:
    [problem] = FastNas(budget={"latency_ms": 2.0}).check()
    assert "FastNAS knows macs and params, not latency_ms; take `prune`" in problem
    assert FastNas(budget={"macs": 1000, "params": 10}).check() == []
    assert any("'multiple' must be at least 1" in said for said in FastNas(budget={"macs": 1}, multiple=0).check())


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "modelopt.torch.prune", None)
    with pytest.raises(MissingExtraError, match=r"edgepress\[fastnas\]"):
        fastnas(small(), Budget(macs=1), 8, images(2)[0], *images(2), seed=0)


@pytest.mark.slow  # importing ModelOpt takes ten seconds
def test_the_network_keeps_the_budget_and_its_answers_on_disk(tmp_path: Path) -> None:
    pytest.importorskip("modelopt.torch.prune")
    pytest.importorskip("torchprofile")
    model = small("cifar_resnet8", 32, width=16)
    whole, before = count_macs(model.module, model.signature), torch.get_rng_state()
    budget = Budget(macs=int(0.6 * whole))
    found, score = fastnas(model, budget, 4, images(64)[0], *images(100), seed=0)
    assert 0 < count_macs(found.module, found.signature) <= budget.limits["macs"] and 0 <= score <= 100
    assert count_macs(model.module, model.signature) == whole and torch.equal(torch.get_rng_state(), before)
    save_model(found, tmp_path)
    seen = images(8)[0]
    assert np.array_equal(TorchPredictor(load_model(tmp_path))(seen), TorchPredictor(found)(seen))
    again, same = fastnas(model, budget, 4, images(64)[0], *images(100), seed=0)
    assert same == score and str(again.module) == str(found.module), "the same seed finds the same network"
    with pytest.raises(ImpossibleBudgetError, match="its narrowest network is above it"):
        fastnas(model, Budget(macs=1000), 4, images(64)[0], *images(100), seed=0)
