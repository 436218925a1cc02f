"""Trackers are told everything, change nothing, and may fail."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgepress.core.artifact import Model
from edgepress.core.config import dump, parse
from edgepress.core.errors import ConfigError
from edgepress.recipes.keys import stage_key
from edgepress.recipes.recipe import dump_recipe, parse_recipe
from edgepress.train.observe import TrackedRun
from edgepress.train.stages import Distill, Train
from edgepress.train.track import Track, read_track
from edgepress.train.trackers.base import Recorder, Tracker, Training, trackers
from train.helpers import NET, Kept, context, same_weights, tiny_data
from train.helpers import Recorder as Progress

STAGE = Train(epochs=2, model=NET, batch=32, lr=0.05, augment={"pad": 1}, precision="fp32")
EVERYTHING = {"every": 3, "layers": ["0", "2"], "samples": 4, "at": [5]}


class Told(Progress):
    """A progress that keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def tracked(folder: Path, to: list[Any], stage: Any = STAGE, **more: Any) -> tuple[Model, Told]:
    """Train under these trackers; return the network and what was said."""
    progress = Told()
    track = read_track({"to": to, **EVERYTHING})
    ctx = context(folder / "cache", progress=progress, **more)
    observer = TrackedRun(track, "stripes", "student", "0123", folder, ctx.data, progress)
    made = stage(None, dataclasses.replace(ctx, observer=observer))
    assert isinstance(made, Model)
    return made, progress


@trackers.register("failing")
@dataclasses.dataclass(frozen=True)
class Failing(Tracker):
    """A tracker for these tests, which fails at one moment."""

    at: str = "open"

    def open(self, training: Training) -> Recorder:
        if self.at == "open":
            raise ConnectionError("no network")
        return _Failing(self.at)


class _Failing(Recorder):
    def __init__(self, at: str) -> None:
        self.at = at

    def _fail(self, where: str) -> None:
        if self.at == where:
            raise RuntimeError(f"{where}:\nout of order")

    def values(self, step: int, values: Mapping[str, float]) -> None:
        self._fail("values")

    def image(self, step: int, name: str, image: np.ndarray, caption: str) -> None:
        self._fail("image")

    def close(self) -> None:
        self._fail("close")


@pytest.mark.parametrize("at", ["open", "values", "image", "close"])
def test_a_tracker_that_fails_is_warned_of_once_and_changes_nothing(tmp_path: Path, at: str) -> None:
    plain = STAGE(None, context(tmp_path / "cache"))
    made, progress = tracked(tmp_path, [{"failing": {"at": at}}, "jsonl"])
    assert isinstance(plain, Model) and same_weights(plain.module, made.module)
    [warning] = [line for line in progress.said if line.startswith("warning")]
    reason = "no network" if at == "open" else f"{at}: out of order"
    assert warning == f"warning: the tracker 'failing' is left out, the training goes on: {reason}"
    assert len(lines(tmp_path)) > 5, "the other tracker is told everything"


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "track" / "jsonl" / "student.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_jsonl_holds_losses_rate_scores_speed_and_the_machine(tmp_path: Path) -> None:
    teacher = STAGE(None, context(tmp_path / "cache"))
    assert isinstance(teacher, Model)
    stage = Distill(teacher="$t", epochs=2, model=NET, batch=32, lr=0.05, views=1, precision="fp32")
    tracked(tmp_path, ["jsonl"], stage, references={"$t": dataclasses.replace(teacher, key="t")})
    head, *rest = lines(tmp_path)
    assert head["label"] == "student" and head["epochs"] == 2 and head["precision"] == "fp32" and head["batch"] == 32
    steps = [line for line in rest if "train/loss" in line]
    assert [line["step"] for line in steps] == [3, 6, 9, 12, 15]
    for line in steps:
        assert line["train/loss"] == pytest.approx(line["train/kd"] + line["train/ce"], rel=1e-5)
        assert line["train/lr"] >= 0 and line["train/images_per_second"] > 0
        assert line["system/memory_mb"] > 50 and line["system/cpu_percent"] >= 0
    epochs = [line for line in rest if "epoch/loss" in line]
    assert [line["step"] for line in epochs] == [8, 16]
    assert {"val/top1", "val/agreement", "terms/kd", "epoch/lr"} <= set(epochs[0])


def test_images_of_samples_and_layers_come_at_the_chosen_steps(tmp_path: Path) -> None:
    tracked(tmp_path, ["jsonl"])
    images = [line for line in lines(tmp_path) if "image" in line]
    assert {line["image"] for line in images} == {"samples", "layers/0", "layers/2"}
    assert sorted({line["step"] for line in images}) == [5, 8, 16]
    shown = {line["image"]: tmp_path / "track" / "jsonl" / line["file"] for line in images}
    with Image.open(shown["layers/0"]) as layers, Image.open(shown["samples"]) as samples:
        assert layers.size == (152, 152) and samples.mode == "RGB" and samples.size[0] > 300
    assert "dead channels" in next(line["caption"] for line in images if line["image"] == "layers/2")
    assert [line["step"] for line in lines(tmp_path) if "dead/2" in line] == [5, 8, 16]


def test_a_layer_that_is_not_there_is_told_once(tmp_path: Path) -> None:
    progress = Told()
    ctx = context(tmp_path, progress=progress)
    observer = TrackedRun(Track(("jsonl",), layers=("conv9",)), "r", "student", "0", tmp_path, ctx.data, progress)
    STAGE(None, dataclasses.replace(ctx, observer=observer))
    assert [line for line in progress.said if "layers" in line] == [
        "warning: no layers are shown: the network has no layer 'conv9'; allowed: 0, 1, 2, 3, 4, 5, 6"
    ]


def test_a_resumed_training_is_taken_down_once(tmp_path: Path) -> None:
    checkpoint = Kept(dies_at=1)  # at the end of the first epoch, step 8
    with pytest.raises(KeyboardInterrupt):
        tracked(tmp_path, ["jsonl"], checkpoint=checkpoint)
    path = tmp_path / "track" / "jsonl" / "student.jsonl"
    path.write_text(path.read_text() + '{"step": 9, "train/loss": 1.0}\n{"step": 10, "tra')  # torn by the kill
    tracked(tmp_path, ["jsonl"], checkpoint=checkpoint)
    assert [line["step"] for line in lines(tmp_path) if "train/loss" in line] == [3, 6, 9, 12, 15]


def test_another_training_of_that_name_starts_a_new_file(tmp_path: Path) -> None:
    track, data = Track(("jsonl",)), tiny_data()
    for key in ("old", "new"):
        observer = TrackedRun(track, "r", "student", key, tmp_path, data, Told())
        observer.begin(5, {})
        observer.step(6, {"loss": 1.0})
        observer.end()
    assert [line.get("key") for line in lines(tmp_path)] == ["new", None]


def test_tensorboard_reads_what_was_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'edgepress[track]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    checkpoint = Kept(dies_at=1)
    with pytest.raises(KeyboardInterrupt):
        tracked(tmp_path, ["tensorboard"], checkpoint=checkpoint)
    time.sleep(1.1)  # event files of one folder are told apart by the second
    _, progress = tracked(tmp_path, ["tensorboard"], checkpoint=checkpoint)
    assert not progress.said
    found = EventAccumulator(str(tmp_path / "track" / "tensorboard" / "student-0123"), {"images": 0, "scalars": 0})
    found.Reload()
    losses = found.Scalars("train/loss")
    assert [event.step for event in losses] == [3, 6, 9, 12, 15]
    assert losses[0].value > losses[-1].value
    assert {"val/top1", "epoch/loss", "train/lr", "system/memory_mb", "dead/0"} <= set(found.Tags()["scalars"])
    assert set(found.Tags()["images"]) == {"samples", "layers/0", "layers/2"}


@pytest.mark.slow
def test_wandb_is_kept_offline_unless_asked_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="pip install 'edgepress[track]'")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    _, progress = tracked(tmp_path, ["wandb"])
    assert not progress.said
    [run] = (tmp_path / "track" / "wandb").glob("offline-run-*-student-0123")
    assert (run / "run-student-0123.wandb").stat().st_size > 1000
    pictures = list((run / "files" / "media" / "images").rglob("*.png"))
    assert len(pictures) == 9, "samples and two layers at three steps"


class Wandb(ModuleType):
    """Stands for the library, which takes seconds to start: keeps what it is told, or refuses."""

    def __init__(self, refuses: str = "") -> None:
        super().__init__("wandb")
        self.refuses, self.given, self.logged, self.finished = refuses, dict[str, Any](), list[dict[str, Any]](), 0
        self.errors = ModuleType("wandb.errors")
        self.errors.Error = type("Error", (Exception,), {})  # pyright: ignore[reportAttributeAccessIssue]
        self.Settings = dict[str, Any]

    def init(self, **given: Any) -> "Wandb":
        self.given = given
        if self.refuses:
            raise self.errors.Error(self.refuses)
        return self

    def define_metric(self, name: str, step_metric: str = "") -> None:
        assert name == "step" or step_metric == "step"

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def Image(self, image: np.ndarray, caption: str) -> tuple[int, ...]:
        assert image.dtype == np.uint8 and caption
        return image.shape

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Wandb:
    library = Wandb(getattr(request, "param", ""))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.setitem(sys.modules, "wandb.errors", library.errors)
    return library


def test_wandb_is_told_everything(tmp_path: Path, wandb: Wandb) -> None:
    _, progress = tracked(tmp_path, [{"wandb": {"project": "roads"}}])
    assert not progress.said and wandb.finished == 1
    given = wandb.given
    assert (given["mode"], given["project"], given["name"], given["id"]) == (
        "offline",
        "roads",
        "student",
        "student-0123",
    )
    assert given["config"]["lr"] == 0.05 and given["dir"] == str(tmp_path / "track")
    assert [line["step"] for line in wandb.logged if "train/loss" in line] == [3, 6, 9, 12, 15]
    assert [line["step"] for line in wandb.logged if "layers/2" in line] == [5, 8, 16]
    assert all("step" in line for line in wandb.logged)


def test_wandb_goes_online_where_asked_to(tmp_path: Path, wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked(tmp_path, [{"wandb": {"mode": "online"}}])
    assert wandb.given["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "online")
    tracked(tmp_path, ["wandb"])
    assert wandb.given["mode"] == "online"


@pytest.mark.parametrize("wandb", ["api_key not configured (no-tty)"], indirect=True)
def test_nobody_logged_in_is_a_warning(tmp_path: Path, wandb: Wandb) -> None:
    _, progress = tracked(tmp_path, [{"wandb": {"mode": "online"}}])
    assert progress.said == [
        "warning: the tracker 'wandb' is left out, the training goes on: api_key not configured (no-tty)"
    ]


def test_a_missing_library_is_a_warning_that_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    _, progress = tracked(tmp_path, ["wandb"])
    assert len(progress.said) == 1 and "pip install 'edgepress[track]'" in progress.said[0]


RECIPE: dict[str, Any] = {
    "name": "r",
    "data": {"synthetic": {}},
    "stages": [{"train": {"name": "t", "model": "cifar_resnet8", "epochs": 1}}],
}


def test_who_is_told_is_in_the_recipe_and_in_no_key() -> None:
    told = {"to": ["jsonl", {"wandb": {"project": "p"}}], "layers": ["layer1.*"], "every": 7}
    plain, with_track = parse_recipe(RECIPE), parse_recipe({**RECIPE, "track": told})
    assert with_track.track.layers == ("layer1.*",) and with_track.track.named()["wandb"].project == "p"
    assert parse_recipe(dump_recipe(with_track)) == with_track
    assert "track" not in dump_recipe(plain)
    assert stage_key(plain.steps[0], {}, "data") == stage_key(with_track.steps[0], {}, "data")
    assert parse_recipe({**RECIPE, "track": "jsonl, wandb"}).track.to == ("jsonl", "wandb")


@pytest.mark.parametrize(
    ("track", "problem"),
    [
        ("tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        ({"to": ["jsonl"], "layer": ["a"]}, "unknown field 'layer'; did you mean 'layers'?"),
        ({"to": [{"wandb": {"projet": "x"}}]}, "'wandb': unknown field 'projet'; did you mean 'project'?"),
        ({"to": ["jsonl"], "every": 0}, "field 'every' must be at least 1"),
        ([{"jsonl": {}, "wandb": {}}], "expected a name, or one name with its fields"),
    ],
)
def test_what_is_wrong_is_told_before_any_training(track: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe({**RECIPE, "track": track})
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", [name for name in trackers if name != "failing"])
def test_a_tracker_is_configuration_with_defaults_and_words(name: str) -> None:
    cls = trackers.get(name)
    assert parse(cls, dump(cls())) == cls() and cls.__doc__


def test_the_command_line_adds_to_the_recipe() -> None:
    track = read_track({"to": [{"wandb": {"project": "p"}}]}).with_names("tensorboard,wandb")
    assert track.to == ({"wandb": {"project": "p"}}, "tensorboard")


def test_the_machine_is_told_of() -> None:
    from edgepress.train.usage import Usage

    usage = Usage()
    most = 100 * (os.cpu_count() or 1) * 1.05
    for work in (2_000_000, 200_000, 20_000):  # calls close together too
        sum(range(work))
        found = usage.values()
        assert 0 < found["system/cpu_percent"] <= most, work
    assert 0 < found["system/machine_memory_percent"] < 100 and found["system/memory_mb"] > 10
    assert torch.cuda.is_available() or not any("gpu" in name for name in found)
