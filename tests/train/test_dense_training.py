"""Every dense loss in a real training of seconds: it is computed, it falls, and the student is what it was made as."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgepress.core.artifact import Model
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit
from edgepress.data.base import Data
from edgepress.models.unet import UNet
from edgepress.train.pairing import dry_run, part_pairs
from edgepress.train.stages import Distill, Train
from train.helpers import context

HEIGHT, WIDTH = 18, 26  # no multiple of the network's stride
COMMON: dict[str, Any] = {"batch": 8, "lr": 0.05, "precision": "fp32", "clip": 5.0}
SMALL = {"width": 4, "depth": 2}


def tones(count: int, seed: int) -> ArraySplit:
    """Bands of three tones with noise; their edges are void."""
    rng = np.random.default_rng(seed)
    images, maps = np.empty((count, HEIGHT, WIDTH, 3), np.uint8), np.empty((count, HEIGHT, WIDTH), np.int64)
    for index in range(count):
        start, step = rng.integers(0, 3), int(rng.integers(5, 9))
        maps[index] = ((np.arange(WIDTH) // step + start) % 3)[None]
        tone = 40 + 80 * maps[index][..., None] + rng.normal(0, 12, (HEIGHT, WIDTH, 3))
        images[index] = np.clip(tone, 0, 255).astype(np.uint8)
        maps[index][:, step - 1] = 255
    return ArraySplit(images, maps)


@pytest.fixture(scope="module")
def data() -> Data:
    labels, spec = ("dark", "mid", "light"), InputSpec(HEIGHT, WIDTH)
    return Data("tones", "segmentation", labels, spec, tones(32, 0), tones(8, 1), tones(8, 2), "tones-1")


@pytest.fixture(scope="module")
def teacher(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Model:
    augment = {"crop": [12, 16], "scale": [0.8, 1.3], "color": 0.1}
    stage = Train(epochs=4, model="unet", arguments={"width": 6, "depth": 3}, augment=augment, **COMMON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgepress.train.precision.SECONDS", 0.01)
        return stage(None, context(tmp_path_factory.mktemp("cache"), data=data)).with_key("teacher")  # type: ignore


@pytest.mark.parametrize(
    "losses",
    [
        ("kd", {"dist": {"temperature": 1}}, "cwd_logits"),
        ({"hint": {"where": "encoder", "weight": 1}}, {"cwd": {"where": "decoder"}}),
        ({"attention": {"where": "bottleneck"}}, {"pairwise": {"where": "all"}}),
        ({"sp": {"where": "bottleneck", "weight": 1}}, "weighted_kd", {"supervised": {"weight": 0}}, "ohem"),
    ],
    ids=["logits", "encoder-decoder", "bottleneck-all", "own-labels"],
)
def test_a_student_learns_from_them(data: Data, teacher: Model, tmp_path: Path, losses: tuple) -> None:
    views = 2 if "kd" in losses else 0
    stage = Distill(epochs=4, model="unet", arguments=SMALL, teacher="$teacher", views=views, losses=losses, **COMMON)
    assert stage.check() == []
    log: list = []
    ctx = context(tmp_path, data=data, references={"$teacher": teacher}, log=log)
    student = stage(None, ctx)
    assert isinstance(student, Model)
    assert list(student.module.state_dict()) == list(UNet(4, 2, 3, 3).state_dict())
    assert log[3]["loss"] < log[0]["loss"]
    assert all(np.isfinite(value) and value >= 0 for epoch in log[:4] for value in epoch["terms"].values())


@pytest.mark.parametrize("name", ["weighted_ce", "focal", "dice", "lovasz", "ohem"])
def test_labels_by_another_loss(data: Data, tmp_path: Path, name: str) -> None:
    stage = Train(epochs=3, model="unet", arguments=SMALL, losses=({"supervised": {"weight": 0}}, name), **COMMON)
    log: list = []
    stage(None, context(tmp_path, data=data, log=log))
    assert set(log[0]["terms"]) == {name}
    assert log[2]["loss"] < log[0]["loss"]


def test_parts_of_a_network_by_a_word() -> None:
    spec = InputSpec(24, 32)
    ours, theirs = dry_run(UNet(4, 2, 3, 3), spec), dry_run(UNet(4, 3, 3, 3, "transposed"), spec)
    paths = {where: [(a.path, b.path) for a, b in part_pairs(ours, theirs, where)] for where in WHERE}
    assert paths["encoder"] == [("stem", "stem"), ("down.0", "down.0")]
    assert paths["bottleneck"] == [("down.1", "down.2")]
    assert paths["decoder"] == [("up.0", "up.1"), ("up.1", "up.2")]
    assert paths["all"] == paths["encoder"] + paths["bottleneck"] + paths["decoder"]


WHERE = ("encoder", "bottleneck", "decoder", "all")


def test_a_classifier_has_no_decoder() -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, 2, 1),
        torch.nn.Conv2d(4, 4, 3, 2, 1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    sites = dry_run(module, InputSpec(16, 16))
    assert [a.path for a, _ in part_pairs(sites, sites, "all")] == ["0", "1"]
    with pytest.raises(ConfigError, match="the student has no decoder"):
        part_pairs(sites, sites, "decoder")
