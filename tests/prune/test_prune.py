"""Pruning under a budget: met as measured, saved and loaded bit for bit, quantized and exported; bad input is named."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.core.artifact import Builder, Model
from edgepress.core.errors import ConfigError, DataError, EdgepressError
from edgepress.cost.budget import Budget, ImpossibleBudgetError
from edgepress.cost.clock import export_file
from edgepress.export.onnx import export_onnx
from edgepress.models.count import count_macs, count_params
from edgepress.models.predictor import TorchPredictor
from edgepress.models.statistics import repair_statistics_
from edgepress.models.structure import load_model, save_model
from edgepress.prune.config import PruneConfig
from edgepress.prune.graph import find_sites
from edgepress.prune.prune import prune, prune_
from prune.helpers import images, signature, small

L1 = PruneConfig(score="l1", minimum=2)


def measured(model: Model, kind: str) -> float:
    if kind == "params":
        return count_params(model.module)
    if kind == "macs":
        return count_macs(model.module, model.signature)
    return len(export_file(model.module, model.signature))


@pytest.mark.parametrize(
    ("kind", "scope"), [("params", "global"), ("params", "layer"), ("macs", "layer"), ("bytes", "global")]
)
def test_a_budget_is_met_closely_and_the_original_is_untouched(kind: str, scope: str) -> None:
    model = small("branches")
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    limit = int(measured(model, kind) * 0.6)
    pruned, report = prune(model, Budget(**{kind: limit}), PruneConfig(score="l1", scope=scope, minimum=2))
    assert 0.8 * limit < measured(pruned, kind) <= limit
    assert report.after[kind] == measured(pruned, kind) and report.widths
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_cost_model_knows_macs_and_params_exactly() -> None:
    model = small("branches")
    for kind in ("params", "macs"):
        limit = int(measured(model, kind) * 0.5)
        _, report = prune(model, Budget(**{kind: limit}), L1)
        assert report.promised[kind] == pytest.approx(report.after[kind], rel=1e-3)


def test_every_layer_of_a_concatenation_keeps_its_minimum() -> None:
    model = small("branches")
    with torch.no_grad():
        model.module.side.weight.mul_(1e-3)  # the least of all: by score alone it would go whole
    pruned, _ = prune(model, Budget(macs=int(measured(model, "macs") * 0.4)), L1)
    assert min(pruned.module.side.out_channels, pruned.module.grouped.out_channels) >= 2


def test_several_limits_hold_at_once() -> None:
    model = small("branches")
    budget = Budget(params=int(measured(model, "params") * 0.7), macs=int(measured(model, "macs") * 0.5))
    pruned, _ = prune(model, budget, L1)
    assert measured(pruned, "params") <= budget.params and measured(pruned, "macs") <= budget.macs


def test_a_speedup_is_that_over_the_network_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(files: Sequence[bytes], *rest: object) -> list[float]:
        return [len(data) / 1000 for data in files]

    monkeypatch.setattr("edgepress.cost.measure.time_files", clock)
    monkeypatch.setattr("edgepress.cost.measure.PAUSE", 0)
    model = small("branches")
    full = measured(model, "bytes")
    pruned, report = prune(model, Budget(speedup=1.25), L1)
    assert report.before == {"latency_ms": full / 1000} and report.asked == {"latency_ms": full / 1000 / 1.25}
    assert measured(pruned, "bytes") <= full / 1.25 * 1.01


def test_a_part_of_the_way_and_nothing_to_do() -> None:
    model = small("branches")
    full = int(measured(model, "params"))
    half, _ = prune(model, Budget(params=full // 2), PruneConfig(score="l1", minimum=2, fraction=0.5))
    assert 0.65 * full < measured(half, "params") <= 0.75 * full
    same, report = prune(model, Budget(params=2 * full), L1)
    assert measured(same, "params") == full and not report.widths


def chain(model: Model, folder: Path, share: float = 0.7) -> None:
    """Prune, save, load bit for bit, export with parity, quantize, save, load, export."""
    pixels, _ = images(model, 32)
    limit = int(count_params(model.module) * share)
    pruned, _ = prune(model, Budget(params=limit), L1, repair=pixels)
    save_model(pruned, folder / "pruned")
    again = load_model(folder / "pruned")
    np.testing.assert_array_equal(TorchPredictor(again)(pixels), TorchPredictor(pruned)(pixels))
    export_onnx(again, pixels)
    from edgepress.quantize.ptq import quantize

    integer = quantize(again, pixels)
    save_model(integer, folder / "integer")
    loaded = load_model(folder / "integer")
    np.testing.assert_array_equal(TorchPredictor(loaded)(pixels), TorchPredictor(integer)(pixels))
    export_onnx(loaded, pixels)


@pytest.mark.parametrize("name", ["branches", "densenet_bc100"])
def test_pruned_networks_are_saved_loaded_exported_and_quantized(name: str, tmp_path: Path) -> None:
    chain(small(name), tmp_path)


def test_heads_and_hidden_widths_of_attention(tmp_path: Path) -> None:
    keywords = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 4, "patch_size": 8}
    model = small("timm:vit_tiny_patch16_224", 32, **keywords)
    found = find_sites(model.module, model.signature)
    assert {site.path for site in found.sites if site.kind == "heads"} == {"blocks.0.attn", "blocks.1.attn"}
    pruned, report = prune(model, Budget(params=int(count_params(model.module) * 0.6)), PruneConfig(score="l2"))
    assert report.widths
    save_model(pruned, tmp_path)
    pixels, _ = images(model, 4)
    np.testing.assert_array_equal(TorchPredictor(load_model(tmp_path))(pixels), TorchPredictor(pruned)(pixels))
    export_onnx(pruned, pixels)


def test_statistics_repair_gives_the_statistics_of_the_images() -> None:
    norm = nn.BatchNorm2d(3)
    x = torch.randn(128, 3, 4, 4) * 2 + 1
    assert repair_statistics_(norm, x) == 1
    assert norm.running_mean is not None and norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, x.var((0, 2, 3)), rtol=0.05, atol=0.05)
    assert norm.training and norm.momentum == 0.1


def test_statistics_are_moved_by_the_change_only() -> None:
    model = small("cifar_resnet8", 16, width=4)
    x = torch.randn(64, 3, 16, 16)
    same = copy.deepcopy(model.module)
    repair_statistics_(same, x, model.module)
    for name, tensor in same.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, model.module.state_dict()[name])


def test_the_change_is_found_for_channels_that_stayed() -> None:
    old, new = nn.Sequential(nn.BatchNorm2d(4)), nn.Sequential(nn.BatchNorm2d(2))
    old[0].running_mean.copy_(torch.tensor([5.0, 6.0, 7.0, 8.0]))
    new[0].running_mean.copy_(torch.tensor([6.0, 8.0]))
    x = torch.randn(64, 4, 4, 4)

    class Cut(nn.Module):
        """Gives the norm the two channels that are left, twice as large and moved by 3."""

        def __init__(self) -> None:
            super().__init__()
            self.norm = new[0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(2 * x[:, 1::2] + 3)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = old[0]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x)

    repair_statistics_(Cut(), x, Whole())
    moved = 3 + x[:, 1::2].mean((0, 2, 3))
    torch.testing.assert_close(new[0].running_mean, torch.tensor([6.0, 8.0]) + moved)
    torch.testing.assert_close(new[0].running_var, torch.full((2,), 4.0))
    torch.testing.assert_close(old[0].running_mean, torch.tensor([5.0, 6.0, 7.0, 8.0]))


def test_an_impossible_budget_names_what_can_be_reached() -> None:
    model = small("branches")
    with pytest.raises(ImpossibleBudgetError, match=r"params 10 \(closest reachable: about \d+, most of it in "):
        prune(model, Budget(params=10), L1)


def bad_weights() -> Model:
    model = small("branches")
    next(model.module.parameters()).data[0] = float("nan")
    return model


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(768, 10), nn.Linear(768, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x.flatten(1)) if x.sum() > 0 else self.b(x.flatten(1))


def plain(module: nn.Module) -> Model:
    return Model(module, Builder("x"), signature(16))


@pytest.mark.parametrize(
    ("model", "config", "error", "words"),
    [
        (bad_weights, L1, EdgepressError, "stem.weight.*NaN"),
        (lambda: small("branches"), PruneConfig(score="l3"), ConfigError, "unknown score 'l3'"),
        (lambda: small("branches"), PruneConfig(score="taylor"), DataError, "looks at images.*l1"),
        (lambda: small("branches"), PruneConfig(score="l1", protect=("*",)), EdgepressError, "nothing.*protected"),
        (lambda: plain(nn.Sequential(nn.Flatten(), nn.Linear(768, 10))), L1, EdgepressError, "nothing in this"),
        (lambda: plain(Branching()), L1, EdgepressError, "PyTorch cannot export Branching"),
    ],
)
def test_bad_input_is_named(model, config, error, words) -> None:
    with pytest.raises(error, match=words):
        prune(model(), Budget(params=500), config)


def test_a_quantized_network_is_refused() -> None:
    from edgepress.quantize.ptq import quantize

    model = small("branches")
    integer = quantize(model, images(model)[0])
    with pytest.raises(EdgepressError, match="prune first"):
        prune(integer, Budget(params=500), L1)


def test_settings_are_checked_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        prune_(nn.Linear(3, 3), signature(), Budget(params=-1, runtime="tpu"), PruneConfig(minimum=0, fraction=2))
    assert len(caught.value.problems) == 4
    assert "give at least one limit" in Budget().problems()[0]
