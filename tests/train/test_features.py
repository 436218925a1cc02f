"""Features by module path: hooks that leave no trace, pairs of stages, connectors that live only while it trains."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit
from edgepress.data.base import Data
from edgepress.train import training
from edgepress.train.features import Tap, Taps
from edgepress.train.objectives.base import FeatureTerm, objectives
from edgepress.train.pairing import Site, arranged, dry_run, layout_of, pair, stages
from edgepress.train.stages import Distill, Train
from train.helpers import Kept, Recorder, context, same_weights, tiny_data

SPEC = InputSpec(height=8, width=8, channels=3)
NET = "train.test_features:staged"


class Staged(nn.Module):
    """Three stages, of 8x8, 4x4 and 2x2 pixels, with activations that overwrite their input."""

    def __init__(self, classes: int, channels: int, width: int) -> None:
        super().__init__()
        sizes = [(channels, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2)]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, s, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
                for a, b, s in sizes
            )
        )
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.stages(x).mean((2, 3))))


def staged(classes: int, channels: int = 3, width: int = 4) -> nn.Module:
    return Staged(classes, channels, width)


TEACHER = Train(epochs=2, model=NET, arguments={"width": 6}, batch=32, lr=0.05, precision="fp32")
STUDENT = Distill(epochs=2, model=NET, batch=32, lr=0.02, precision="fp32", teacher="$teacher", views=2)
FEATURES = [name for name in objectives if issubclass(objectives.get(name), FeatureTerm)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return TEACHER(None, context(tmp_path_factory.mktemp("teacher"), data=tiny_data(128))).with_key("teacher")


def taught(stage: Distill, folder: Path, teacher: Any, **more: Any) -> Any:
    return stage(None, context(folder, data=tiny_data(128), references={"$teacher": teacher}, **more))


@pytest.mark.parametrize("name", FEATURES)
def test_a_student_taught_by_features_carries_nothing_of_it(name: str, tmp_path: Path, teacher: Any) -> None:
    log: list = []
    model = taught(dataclasses.replace(STUDENT, method=name), tmp_path, teacher, log=log)
    fresh = staged(2)
    assert list(model.module.state_dict()) == list(fresh.state_dict())
    parts = list(model.module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in parts)
    assert [part.inplace for part in parts if isinstance(part, nn.ReLU)] == [True] * 3
    assert str(model.module) == str(fresh)
    assert set(log[0]["terms"]) == {name, "ce"} and all(v == v for v in log[0]["terms"].values())
    assert all(p.grad is None for p in teacher.module.parameters())
    assert not any(part._forward_hooks for part in teacher.module.modules())


@pytest.mark.parametrize("losses", [("review",), ("mgd", {"dkd": {"beta": 2}}), ("margin", "crd"), ("crd", "rkd")])
def test_connectors_are_part_of_the_checkpoint(losses: Any, tmp_path: Path, teacher: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    stage = dataclasses.replace(STUDENT, losses=losses, clip=1.0)
    undisturbed = taught(stage, tmp_path / "one", teacher)
    for dies_at in (1, 4, 6):
        checkpoint = Kept(dies_at)
        with pytest.raises(KeyboardInterrupt):
            taught(stage, tmp_path / "one", teacher, checkpoint=checkpoint)
        torch.manual_seed(99)
        resumed = taught(stage, tmp_path / "one", teacher, checkpoint=checkpoint)
        assert same_weights(undisturbed.module, resumed.module)


def test_connectors_learn(tmp_path: Path, teacher: Any) -> None:
    student, term = staged(2), objectives.get("hint")()
    taps = Taps(student, teacher.module, (SPEC, SPEC), [term], seed=0)
    again = Taps(student, teacher.module, (SPEC, SPEC), [term], seed=0)
    assert same_weights(taps.connectors, again.connectors)
    checkpoint = Kept(dies_at=1)
    with pytest.raises(KeyboardInterrupt):
        taught(dataclasses.replace(STUDENT, method="hint"), tmp_path, teacher, checkpoint=checkpoint)
    assert checkpoint.state is not None
    kept = checkpoint.state["companion"]["connectors"]
    assert kept.keys() == taps.connectors.state_dict().keys()
    assert all(not torch.equal(kept[key], value) for key, value in taps.connectors.state_dict().items())


def test_the_pairs_are_told(tmp_path: Path, teacher: Any) -> None:
    said: list[str] = []

    class Listener(Recorder):
        def say(self, text: str) -> None:
            said.append(text)

    ctx_progress = Listener()
    taught(dataclasses.replace(STUDENT, method="attention"), tmp_path, teacher, progress=ctx_progress)
    line = (
        "attention: stages.0 4x8x8 <- stages.0 6x8x8, stages.1 8x4x4 <- stages.1 12x4x4, stages 8x2x2 <- stages 12x2x2"
    )
    assert f"compared, {line}" in said
    assert not [label for label in ctx_progress.labels if label.startswith("teacher")], "features are not kept"


def test_vectors_of_the_teacher_are_kept_with_its_outputs(tmp_path: Path, teacher: Any, monkeypatch: Any) -> None:
    stage, progress = dataclasses.replace(STUDENT, losses=("crd", "rkd", "dist"), views=1), Recorder()
    kept: list = []
    asked: list = []
    taught(stage, tmp_path / "kept", teacher, log=kept, progress=progress)
    assert [label for label in progress.labels if label.startswith("teacher")] == ["teacher, view 1"]
    files = sorted(path.name for path in (tmp_path / "kept").glob("teacher/*/view-*"))
    assert files == ["view-000-head-in.npy", "view-000.npy"]
    monkeypatch.setattr(Taps, "vectors", False)
    taught(stage, tmp_path / "kept", teacher, log=asked)
    assert kept[0]["terms"] == pytest.approx(asked[0]["terms"], rel=2e-3)


@pytest.mark.parametrize(
    ("loss", "problems"),
    [
        (
            {"hint": {"student": ["stage.1"], "teacher": ["stages.1"]}},
            ["the student has no module 'stage.1'.*'stages.1'"],
        ),
        (
            {"hint": {"student": ["x*"], "teacher": ["y*"]}},
            ["student has no module 'x.'", "teacher has no module 'y.'"],
        ),
        ({"hint": {"student": ["stages.?"], "teacher": ["stages.1"]}}, ["3 of the student and 1 of the teacher"]),
        ({"review": {"student": ["head:in"], "teacher": ["stages.1"]}}, ["no connector joins a map and a .*head:in 8"]),
        ({"cwd": {"student": ["head:in"], "teacher": ["head:in"]}}, ["compares maps.* head:in 8 of the student"]),
        ({"hint": {"student": ["drop"], "teacher": ["stages.1"]}}, ["no connector joins a map and a vector, drop 8 "]),
    ],
)
def test_modules_that_do_not_fit_are_named(loss: Any, problems: list[str], tmp_path: Path, teacher: Any) -> None:
    with pytest.raises(ConfigError) as error:
        taught(dataclasses.replace(STUDENT, losses=(loss,)), tmp_path, teacher)
    assert len(error.value.problems) == len(problems)
    for problem in problems:
        error.match(problem)


def test_globs_name_modules_in_their_order(teacher: Any) -> None:
    term = objectives.get("hint")(student=("stages.[12].0",), teacher=("stages.1.0", "stages.2.0"))
    taps = Taps(staged(2), teacher.module, (SPEC, SPEC), [term], seed=0)
    assert [(a.path, b.path) for a, b in taps.pairs[term]] == [
        ("stages.1.0", "stages.1.0"),
        ("stages.2.0", "stages.2.0"),
    ]


def test_a_feature_is_what_the_module_gave_although_the_next_one_overwrites_its_input() -> None:
    student, term = staged(2), objectives.get("margin")()
    taps = Taps(student, staged(2, width=6), (SPEC, SPEC), [term], seed=0)
    assert [a.path for a, _ in taps.pairs[term]] == ["stages.0.1", "stages.1.1", "stages.2.1"]
    with taps.student.attached():
        taps.student.open = True
        student(torch.randn(4, 3, 8, 8))
    assert all((taps.student.take(a.path) < 0).any() for a, _ in taps.pairs[term])


class AddsInPlace(nn.Module):
    """The end of a residual block as torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm(self.conv(x))
        out += x
        return out.relu()


def test_a_feature_is_what_the_module_gave_although_a_block_adds_to_it() -> None:
    module, x = AddsInPlace().eval(), torch.randn(2, 3, 4, 4)
    tap = Tap(module, [Site("norm", (3, 4, 4), "map", True)])
    tap.open = True
    with tap.attached():
        module(x).sum().backward()
    torch.testing.assert_close(tap.take("norm"), module.norm(module.conv(x)))


def test_mixup_shows_teacher_and_student_the_same_blend(tmp_path: Path, teacher: Any) -> None:
    stage = dataclasses.replace(STUDENT, method="hint", augment={"mixup": 0.4}, views=0)
    assert stage.check() == []
    assert dataclasses.replace(stage, method="dkd").check() == []
    taught(stage, tmp_path, teacher)


class Columns(nn.Module):
    """A transformer in outline: six blocks over 16 tokens and one of class."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 10, 2, 2)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(10), nn.Linear(10, 10)) for _ in range(6))
        self.head = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((tokens.mean(1, keepdim=True), tokens), 1)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.head(tokens[:, 0])


def test_a_transformer_is_paired_with_stages_by_depth() -> None:
    ours, theirs = dry_run(staged(2), SPEC), dry_run(Columns(), SPEC)
    assert [(a.path, b.path) for a, b in pair(ours, theirs, "stages")] == [
        ("stages.0", "blocks.1"),
        ("stages.1", "blocks.3"),
        ("stages", "blocks.5"),
    ]
    assert [(a.path, b.path) for a, b in pair(ours, theirs, "embedding")] == [("head:in", "head:in")]


def test_levels_are_paired_from_the_deepest_whatever_their_sizes() -> None:
    ours, theirs = dry_run(staged(2), SPEC), dry_run(staged(2), InputSpec(height=16, width=16))
    assert [a.resolution[0] for a, _ in pair(ours, theirs, "stages")] == [8, 4]
    found = pair(ours, theirs, "levels")
    assert [(a.resolution[0], b.resolution[0]) for a, b in found] == [(8, 16), (4, 8), (2, 4), (1, 1)]
    assert [a.path for a, _ in found][-1] == "head:in"
    shallow = [site for site in theirs if site.path != "stages" and not site.path.startswith("stages.2")]
    assert [(a.path, b.path) for a, b in pair(ours, shallow, "levels")] == [
        ("stages.1", "stages.0"),
        ("stages", "stages.1"),
        ("head:in", "head:in"),
    ]


def test_levels_of_networks_without_shrinking_maps_are_their_stages() -> None:
    ours, theirs = dry_run(staged(2), SPEC), dry_run(Columns(), SPEC)
    assert pair(ours, theirs, "levels") == [*pair(ours, theirs, "stages"), *pair(ours, theirs, "embedding")]
    around = dry_run(dense(3), SPEC)
    assert pair(around, around, "levels") == pair(around, around, "stages")


def test_connectors_that_normalize_want_two_images(tmp_path: Path, teacher: Any) -> None:
    stage = dataclasses.replace(STUDENT, losses=("review", "dkd"), batch=1)
    with pytest.raises(ConfigError, match="batch: 1, allowed is 2 or more: 'review' normalizes"):
        taught(stage, tmp_path, teacher)


def test_tokens_and_channels_last_become_maps() -> None:
    assert layout_of((2, 17, 10), square=True) == ("tokens", (10, 4, 4))
    assert layout_of((2, 4, 4, 10), square=True) == ("nhwc", (10, 4, 4))
    assert layout_of((2, 10, 4, 4), square=True) == ("map", (10, 4, 4))
    assert layout_of((2, 4, 4, 10), square=False) == ("map", (4, 4, 10))
    assert layout_of((2,), square=True) is None
    assert layout_of((2, 33, 64), square=False) is None, "4 x 8 patches and a class token are no 5 x 5 map"
    x = torch.arange(2 * 17 * 3.0).view(2, 17, 3)
    assert torch.equal(arranged(x, "tokens")[:, :, 1, 2], x[:, 1 + 1 * 4 + 2])
    y = torch.randn(2, 4, 4, 3)
    assert torch.equal(arranged(y, "nhwc")[:, 1], y[..., 1])


def test_a_dry_run_leaves_no_trace() -> None:
    net = staged(2).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    dry_run(net, SPEC)
    assert net.training and not any(part._forward_hooks for part in net.modules())
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


class Dense(nn.Module):
    """Down and up again: a class per pixel."""

    def __init__(self, classes: int, channels: int, width: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU())
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.up(self.down(x)))


def dense(classes: int, channels: int = 3, width: int = 4) -> nn.Module:
    return Dense(classes, channels, width)


def test_segmentation_learns_from_logits_and_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    maps = images.mean(3).astype(np.int64) // 86
    maps[:, 0, 0] = 255
    part = ArraySplit(images, maps)
    data = Data("tones", "segmentation", ("dark", "mid", "light"), SPEC, part, part, part, "tones-0")
    net = "train.test_features:dense"
    start = Train(epochs=4, model=net, arguments={"width": 8}, batch=16, lr=0.1, precision="fp32")
    teacher = start(None, context(tmp_path, data=data)).with_key("teacher")
    losses = ("dkd", "weighted_kd", {"standardized": {"of": {"dist": {}}}}, "mlkd", "review", "cwd", "attention")
    stage = Distill(epochs=5, model=net, teacher="$teacher", batch=16, lr=0.01, precision="fp32", losses=losses)
    log: list = []
    ctx = context(tmp_path, data=data, references={"$teacher": teacher}, log=log)
    model = stage(None, ctx)
    assert list(model.module.state_dict()) == list(dense(3).state_dict())
    # A sum that is mostly DKD: which of its single epochs goes up hangs on the order of floating-point sums.
    assert log[4]["loss"] < log[0]["loss"] and len(log[0]["terms"]) == len(losses) + 1
    assert ctx.notes["distillation"]["compared"][-1].startswith("attention: down 4x4x4 <- down 8x4x4, up 4x8x8")
    assert set(ctx.notes["distillation"]["teacher"]) == {"miou"}


@pytest.mark.slow
def test_families_of_the_issue_are_paired() -> None:
    import timm

    spec = InputSpec(height=224, width=224)
    names = ("resnet50", "mobilenetv3_small_100", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224")
    sites = {name: dry_run(timm.create_model(name, num_classes=10), spec) for name in names}
    found = pair(sites["mobilenetv3_small_100"], sites["resnet50"], "stages")
    assert [(a.resolution, b.path) for a, b in found][-4:] == [
        ((56, 56), "layer1"),
        ((28, 28), "layer2"),
        ((14, 14), "layer3"),
        ((7, 7), "layer4"),
    ]
    found = pair(sites["mobilenetv3_small_100"], sites["vit_tiny_patch16_224"], "stages")
    assert [b.path for _, b in found] == ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]
    assert [s.resolution for s in stages(sites["swin_tiny_patch4_window7_224"])] == [
        (56, 56),
        (28, 28),
        (14, 14),
        (7, 7),
    ]
