"""Factorizing networks: budgets met, reloaded bit for bit, pruned and quantized on; bad input is named."""

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.core.artifact import Model
from edgepress.core.errors import BundleError, ConfigError, DataError, EdgepressError
from edgepress.cost.budget import Budget, ImpossibleBudgetError
from edgepress.export.fake import Quantizer, Scheme
from edgepress.export.onnx import export_onnx
from edgepress.factorize.config import FactorizeConfig
from edgepress.factorize.factorize import factorize, factorize_
from edgepress.factorize.layers import Factored
from edgepress.factorize.options import within
from edgepress.models.count import count_macs, count_params
from edgepress.models.predictor import TorchPredictor
from edgepress.models.structure import load_model, save_model
from edgepress.prune.config import PruneConfig
from edgepress.prune.prune import prune
from prune.helpers import images, signature, small


def smooth(model: Model) -> Model:
    """Give the layers spectra that fall off, as training does: of random weights nothing can be taken."""
    for part in model.module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear) and getattr(part, "groups", 1) == 1:
            with torch.no_grad():
                u, s, v = torch.linalg.svd(part.weight.flatten(1), full_matrices=False)
                falling = torch.logspace(0, -2, len(s)) * s[0]
                part.weight.copy_(((u * falling) @ v).view_as(part.weight))
    return model


def resnet(width: int = 8) -> Model:
    return smooth(small("cifar_resnet8", 16, width=width))


def same(one: Model, other: Model, pixels: np.ndarray) -> bool:
    return bool((TorchPredictor(one)(pixels) == TorchPredictor(other)(pixels)).all())


@pytest.mark.parametrize("kind", ["params", "macs", pytest.param("bytes", marks=pytest.mark.slow)])
def test_a_budget_is_met_closely_and_the_original_is_untouched(kind: str, tmp_path: Path) -> None:
    model = resnet()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    pixels, _ = images(model)
    full = {"params": count_params(model.module), "macs": count_macs(model.module, model.signature)}.get(kind)
    if full is None:
        from edgepress.cost.clock import export_file

        full = len(export_file(model.module, model.signature))
    limit = int(full * 0.7)
    result, report = factorize(model, budget=Budget(**{kind: limit}), images=pixels)
    assert 0.85 * limit < report.after[kind] <= limit
    if kind == "params":
        assert count_params(result.module) == report.after[kind]
    assert {p for p, m in result.module.named_modules() if isinstance(m, Factored)} == set(report.changes)
    assert set(report.changes) | set(report.whole) == {
        path for path, part in model.module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)
    }
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    save_model(result, tmp_path)
    assert same(load_model(tmp_path), result, pixels)
    [edit] = json.loads((tmp_path / "structure.json").read_text())["edits"]
    assert edit["whole"] == report.whole and edit["layers"].keys() == report.changes.keys()


@pytest.mark.parametrize(
    "config",
    [
        FactorizeConfig(energy=0.9),
        FactorizeConfig(rank="vbmf", conv="tucker"),
        FactorizeConfig(rank="share", share=0.3, conv="spatial"),
        FactorizeConfig(rank="share", share=0.05, conv="cp"),
        FactorizeConfig(conv="none", energy=0.8),
    ],
    ids=lambda c: f"{c.rank}-{c.conv}",
)
def test_every_rule_takes_params_and_macs(config: FactorizeConfig, tmp_path: Path) -> None:
    model = resnet(4)
    pixels, _ = images(model)
    result, report = factorize(model, config, images=pixels, repair=pixels)
    assert report.changes and len(report.table()) == len(report.changes) + len(report.whole)
    assert count_params(result.module) < count_params(model.module)
    assert count_macs(result.module, result.signature) < count_macs(model.module, model.signature)
    methods = {change.method for path, change in report.changes.items() if "linear" not in path and "sh" not in path}
    assert methods <= ({"tucker", "spatial"} if config.conv == "auto" else {config.conv})
    save_model(result, tmp_path)
    assert same(load_model(tmp_path), result, pixels)


def test_energy_is_what_the_weights_keep() -> None:
    model = resnet()
    _, report = factorize(model, FactorizeConfig(energy=0.95))
    assert report.changes
    assert all(change.error**2 <= 0.05 + 1e-6 for change in report.changes.values())


def test_fitting_to_images_brings_the_outputs_closer() -> None:
    model = resnet()
    pixels, _ = images(model, 64)
    config = FactorizeConfig(rank="share", share=0.3)
    expected = TorchPredictor(model)(pixels)
    fitted, report = factorize(model, config, images=pixels)
    plain, _ = factorize(model, config)
    off = [float(np.square(TorchPredictor(m)(pixels) - expected).mean()) for m in (fitted, plain)]
    assert off[0] < 0.7 * off[1]
    assert all(change.output_error is not None and 0 <= change.output_error < 1 for change in report.changes.values())


def less(which: Model, share: float) -> Budget:
    return Budget(params=int(count_params(which.module) * share))


def test_a_chain_is_made_thinner_again(tmp_path: Path) -> None:
    model = resnet()
    pixels, _ = images(model)
    once, first = factorize(model, budget=less(model, 0.8), images=pixels)
    twice, second = factorize(once, budget=less(once, 0.8), images=pixels)
    assert set(first.changes) & set(second.changes)
    assert count_params(twice.module) <= 0.8 * count_params(once.module)
    assert not any(isinstance(m, Factored) for f in twice.module.modules() if isinstance(f, Factored) for m in f)
    save_model(twice, tmp_path)
    assert same(load_model(tmp_path), twice, pixels)


def test_a_network_factorized_by_hand_is_saved_too(tmp_path: Path) -> None:
    model = resnet(4)
    pixels, _ = images(model)
    assert factorize_(model.module, model.signature, FactorizeConfig(rank="share", share=0.3)).changes
    save_model(model, tmp_path)
    assert same(load_model(tmp_path), model, pixels)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_prune_factorize_prune_factorize_quantize(tmp_path: Path) -> None:
    model = resnet()
    pixels, _ = images(model, 32)
    model, _ = prune(model, less(model, 0.8), PruneConfig(score="l2", minimum=2))
    model, first = factorize(model, budget=less(model, 0.8), images=pixels)
    model, _ = prune(model, less(model, 0.8), PruneConfig(score="l2", minimum=2))
    assert first.changes.keys() == {path for path, m in model.module.named_modules() if isinstance(m, Factored)}
    model, _ = factorize(model, budget=less(model, 0.8), images=pixels)
    save_model(model, tmp_path / "factors")
    again = load_model(tmp_path / "factors")
    assert same(again, model, pixels)
    export_onnx(again, pixels)
    from edgepress.quantize.ptq import quantize

    integer = quantize(again, pixels)
    save_model(integer, tmp_path / "integer")
    assert same(load_model(tmp_path / "integer"), integer, pixels)
    assert export_onnx(integer, pixels).parity["agreement"] >= 99


class Odd(nn.Module):
    """What cannot come apart, each with its reason."""

    class Own(nn.Conv2d):
        pass

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.own = self.Own(16, 16, 3, padding=1)
        self.even = nn.Conv2d(16, 16, 2, padding="same")
        self.one, self.other = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.other.weight = self.one.weight
        self.idle = nn.Linear(16, 16)
        self.called = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.even(self.own(self.grouped(self.depthwise(self.stem(x)))))
        x = self.called(self.called(self.other(self.one(x).relu()).relu()))
        return self.head(x.mean((2, 3)))


def test_what_stays_whole_says_why() -> None:
    module = Odd()
    with warnings.catch_warnings():  # torch's, of what padding an even kernel costs
        warnings.simplefilter("ignore")
        report = factorize_(module, signature(8), FactorizeConfig(rank="share", share=0.2, protect=("head",)))
    wanted = {
        "depthwise": "mixes no channels",
        "grouped": "4 groups",
        "own": "a Own is not factorized",
        "even": "uneven",
        "one": "tied",
        "other": "tied",
        "idle": "does not run",
        "head": "protected",
    }
    assert report.whole.keys() == wanted.keys()
    assert all(words in report.whole[path] for path, words in wanted.items())
    assert report.changes["called"].saved["macs"][0] == 2 * 64 * 16 * 16 * 9, "it runs twice"


def test_factors_that_would_not_be_cheaper_are_not_made() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 10))
    report = factorize_(module, signature(8), FactorizeConfig(rank="share", share=1.0))
    assert not report.changes
    assert all("params would be" in reason for reason in report.whole.values())
    assert not any(isinstance(part, Factored) for part in module.modules())


def test_a_layer_that_factors_would_slow_down_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    import edgepress.factorize.factorize as room

    class Clock:
        """Times follow MACs, but on large maps each kernel other than 3 x 3 costs a lot, whatever it computes."""

        step = 8

        def __init__(self, budget: Budget, folder: Path | None) -> None:
            pass

        def __call__(self, shape: Any, inputs: int, outputs: int) -> float:
            slow = 50.0 if shape.height == 16 and shape.kernel != (3, 3) else 0.0
            return inputs * outputs * shape.height * shape.width * int(np.prod(shape.kernel or (1,))) / 1e5 + slow

        def save(self) -> None:
            pass

    module = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.Conv2d(32, 32, 3, stride=2, padding=1),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    clock = Clock(Budget(latency_ms=1.0), None)

    def fake(found: nn.Module, *rest: Any) -> float:
        from edgepress.cost.shapes import watch

        return 1 + sum(
            clock(shape, part.weight.shape[1], part.weight.shape[0])
            for part, (shape, _) in watch(found, signature(16)).values()
        )

    monkeypatch.setattr(room, "LatencyTable", Clock)
    monkeypatch.setattr(room, "measured", fake)
    monkeypatch.setattr(room.Yardstick, "of", lambda found, *rest: room.Yardstick(b"", fake(found)))
    full = fake(module)
    whole = copy.deepcopy(module)
    report = factorize_(module, signature(16), budget=Budget(latency_ms=full - 8))
    assert report.after["latency_ms"] <= (full - 8) * 1.01
    assert "slower" in report.whole["1"] and set(report.changes) <= {"3", "6"}
    again = factorize_(copy.deepcopy(whole), signature(16), budget=Budget(speedup=full / (full - 8)))
    assert again.changes == report.changes and again.after == report.after
    with pytest.raises(ImpossibleBudgetError, match="closest reachable"):
        factorize_(module, signature(16), budget=Budget(latency_ms=5.0))


def test_a_budget_is_not_paid_by_one_layer_that_keeps_nothing() -> None:
    layers: list[Any] = [
        SimpleNamespace(site=SimpleNamespace(whole=SimpleNamespace(chain=10)), cost=lambda kind, chain, time: chain)
        for _ in range(11)
    ]
    ruin: Any = SimpleNamespace(chain=0, loss=0.98)
    mild: Any = SimpleNamespace(chain=9, loss=0.1)
    choices = [[ruin, mild], *([[mild]] * 10)]
    assert sorted(map(bool, within(layers, choices, "params", 100, 0, None))) == [False] + [True] * 10
    assert within(layers, choices, "params", 95, 0, None)[0] is ruin, "without it there is no way"


def test_an_impossible_budget_names_what_can_be_reached() -> None:
    model = resnet(4)
    with pytest.raises(ImpossibleBudgetError, match=r"params 10 \(closest reachable: about \d+, most of it in "):
        factorize(model, budget=Budget(params=10))


def test_nothing_to_do_is_not_an_error() -> None:
    model = resnet(4)
    result, report = factorize(model, budget=Budget(params=10**9))
    assert not report.changes and count_params(result.module) == count_params(model.module)
    assert set(report.whole.values()) == {"the budget is met without"}


@pytest.mark.parametrize(
    ("config", "budget", "words"),
    [
        ({"protect": ("layer3.0.conv3",)}, None, "protect: no layer matches 'layer3.0.conv3'; did you mean 'layer3"),
        ({"layers": ("linaer",)}, None, "did you mean 'linear'"),
        ({"ranks": {"linear": 11}}, None, "rank 11 of 'linear' by svd is above its full rank 10"),
        ({"ranks": {"linear": (3, 3)}}, None, "svd takes 1, got 2"),
        ({"ranks": {"linear": 0}}, None, "a rank is at least 1"),
        ({"rank": "vbmf"}, {"params": 9}, "exclude each other"),
        ({"rank": "budget"}, None, "needs a budget"),
        ({}, {"params": 9, "macs": 9}, "give one limit"),
        ({}, {"params": 0}, "above 0"),
        ({"energy": 0.0}, None, r"energy must be in \(0, 1\]"),
        ({"fraction": 0.5}, None, "there is none"),
        ({"conv": "none", "linear": "none"}, None, "nothing to factorize"),
    ],
)
def test_wrong_settings_are_named_and_change_nothing(config: Any, budget: Any, words: str) -> None:
    model = small("cifar_resnet8")
    kinds = [type(part) for part in model.module.modules()]
    with pytest.raises(ConfigError, match=words):
        factorize_(model.module, model.signature, FactorizeConfig(**config), budget and Budget(**budget))
    assert [type(part) for part in model.module.modules()] == kinds


def test_ranks_by_hand() -> None:
    model = small("cifar_resnet8", 16, width=8)
    config = FactorizeConfig(layers=("layer3.*",), conv="tucker", ranks={"layer3.0.conv*": (5, 4)})
    _, report = factorize(model, config)
    assert {report.changes[f"layer3.0.conv{n}"].ranks for n in (1, 2)} == {(5, 4)}
    assert report.whole["conv1"] == "not asked for"


def test_ranks_by_hand_go_to_the_methods_they_suit() -> None:
    model, path = resnet(16), "layer3.0.conv2"
    for ranks, method in (((12, 12), "tucker"), (70, "spatial")):
        module = copy.deepcopy(model.module)
        report = factorize_(module, model.signature, FactorizeConfig(layers=(path,), ranks={path: ranks}))
        assert report.changes[path].method == method
    with pytest.raises(ConfigError) as caught:
        factorize_(model.module, model.signature, FactorizeConfig(layers=(path,), ranks={path: (4, 4, 4)}))
    assert "tucker takes 2, got 3" in str(caught.value) and "spatial takes 1, got 3" in str(caught.value)


class LooksIn(nn.Module):
    """A network that asks a layer for more than its output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fc, self.last = nn.Linear(768, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.fc(self.first(x.flatten(1)).view(-1, self.fc.in_features)))


def test_a_layer_that_the_network_looks_into_stays_whole() -> None:
    module = LooksIn()
    report = factorize_(module, signature(16), FactorizeConfig(ranks={"*": 4}))
    assert "the network looks into it" in report.whole["fc"] and set(report.changes) == {"first", "last"}
    assert module(torch.zeros(1, 3, 16, 16)).shape == (1, 10)


def test_networks_it_refuses() -> None:
    model = small("cifar_resnet8")
    pixels, _ = images(model, 8)
    with pytest.raises(DataError, match="expected uint8 images"):
        factorize(model, images=pixels[:, :4])
    with pytest.raises(EdgepressError, match="w8a8 already: factorize first"):
        factorize(replace(model, precision="w8a8"))
    quantized = nn.Sequential(nn.Conv2d(3, 4, 3), Quantizer(Scheme(8)))
    with pytest.raises(EdgepressError, match="quantized network"):
        factorize_(quantized, model.signature)
    with torch.no_grad():
        model.module.conv1.weight[0] = float("nan")
    with pytest.raises(EdgepressError, match=r"conv1.weight hold NaN"):
        factorize(model)


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    model = resnet(4)
    result, _ = factorize(model, FactorizeConfig(rank="share", share=0.3))
    save_model(result, tmp_path)
    path = tmp_path / "structure.json"
    value = json.loads(path.read_text())
    value["edits"][0]["layers"] = {"nowhere": {"factors": []}}
    path.write_text(json.dumps(value))
    with pytest.raises(BundleError, match="damaged"):
        load_model(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_time_is_met_on_the_exported_file(tmp_path: Path) -> None:
    from edgepress.cost.measure import measured

    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    full = measured(module, signature(24), "latency_ms", Budget(latency_ms=1.0))
    report = factorize_(module, signature(24), budget=Budget(latency_ms=full * 0.7), cache=tmp_path)
    assert report.after["latency_ms"] <= full * 0.7 * 1.01 and report.changes
    assert list(tmp_path.glob("layer-times/*.json"))
