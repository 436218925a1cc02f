"""The figures' own arithmetic, without the minutes they take."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from benchmarks.base import Options
from benchmarks.figures import kill_resume
from benchmarks.figures.kill_resume import differences, place_of, snapshot

from edgepress.core.artifact import Builder, Model, Program, Signature
from edgepress.core.errors import BundleError, EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.measure.rows import Row, write_rows


def test_overhead_calls_take_turns_and_the_first_are_not_counted() -> None:
    pytest.importorskip("onnxruntime")
    from benchmarks.figures.predictor import alternate

    order: list[str] = []
    slow, quick = alternate(lambda: (order.append("a"), time.sleep(0.001)), lambda: order.append("b"), rounds=20)
    assert len(slow) == len(quick) == 20
    assert min(slow) > max(1_000_000, np.median(quick))
    assert order.count("a") == order.count("b") == 70
    assert order[:4] == ["b", "a", "a", "b"]


def test_the_stopwatch_times_whole_steps_after_the_warm_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    from benchmarks.figures import train_speed

    clock, done = [0.0], list[int]()
    monkeypatch.setattr(train_speed.time, "perf_counter", lambda: clock[0])

    def batches() -> Iterator[int]:
        for number in range(100):
            clock[0] += 50.0 if number == 0 else 0.25  # the start of the workers; then loading
            yield number

    watch = train_speed.Stopwatch(warm=2, steps=5)
    with pytest.raises(train_speed.Enough):
        for number in watch.track(batches(), 100, ""):
            done.append(number)
            clock[0] += 1.0  # computing
    assert done == [0, 1, 2, 3, 4, 5, 6]
    assert watch.seconds == 5 * 1.25


def test_the_peer_augments_and_learns() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    from benchmarks.peers import plain_pytorch

    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 64)
    images = np.where(targets[:, None, None, None] == 1, 200, 50).astype(np.uint8) * np.ones((1, 32, 32, 3), np.uint8)
    data = plain_pytorch.loader(images, targets, (0.5,) * 3, (0.5,) * 3, batch=16, workers=0)
    inputs, labels = next(iter(data))
    assert inputs.shape == (16, 3, 32, 32) and inputs.dtype == torch.float32 and inputs.min() >= -1
    assert set(labels.tolist()) <= {0, 1}
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    before = module[2].weight.clone()
    assert list(plain_pytorch.epoch(module, data)) == [16] * 4
    assert not torch.equal(before, module[2].weight)


def test_a_process_that_fails_is_not_timed() -> None:
    import sys

    from benchmarks.figures.startup import process_seconds

    assert len(process_seconds([sys.executable, "-c", "pass"], 2)) == 2
    with pytest.raises(EdgepressError, match="exit code 3"):
        process_seconds([sys.executable, "-c", "raise SystemExit(3)"], 1)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run folder with one training, done, and one that is not."""
    shelf = tmp_path / "train-0123"
    (shelf / "bundle").mkdir(parents=True)
    (shelf / "weights.safetensors").write_bytes(b"weights")
    (shelf / "bundle" / "model.onnx").write_bytes(b"model")
    (shelf / "log.jsonl").write_text(json.dumps({"epoch": 1, "loss": 0.5, "images_per_second": 300}) + "\n")
    write_rows(shelf / "rows" / "quality-1.jsonl", [Row("a", "top1", 88.0, "%", date="2026-02-03")])
    (shelf / "done").write_bytes(b"")
    (tmp_path / "train-4567").mkdir()
    return tmp_path


def test_speed_and_date_may_differ(finished: Path) -> None:
    before = snapshot(finished)
    assert len(before) == 4
    shelf = finished / "train-0123"
    (shelf / "log.jsonl").write_text(json.dumps({"epoch": 1, "loss": 0.5, "images_per_second": 299}) + "\n")
    write_rows(shelf / "rows" / "quality-1.jsonl", [Row("a", "top1", 88.0, "%", date="2026-02-04")])
    assert differences(before, snapshot(finished)) == []


@pytest.mark.parametrize(
    "what", ["weights.safetensors", "bundle/model.onnx", "log.jsonl", "rows/quality-1.jsonl", "done"]
)
def test_everything_else_may_not(finished: Path, what: str) -> None:
    before, path = snapshot(finished), finished / "train-0123" / what
    if what == "done":
        path.unlink()
    elif what.startswith("rows"):
        write_rows(path, [Row("a", "top1", 88.01, "%")])
    elif what == "log.jsonl":
        path.write_text(json.dumps({"epoch": 1, "loss": 0.5000001}) + "\n")
    else:
        path.write_bytes(b"other")
    assert differences(before, snapshot(finished))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("data: cifar10\nteacher: train\n  epoch 1/2: 1.0 s\n", "train"),
        ("teacher: train\nteacher: done in 3.0 s\n", "between"),
        ("teacher: train\nteacher: done in 3.0 s\nfp32: export\nparity on 500 images: 100.00 %\n", "export"),
        ("fp32: export\ndata: cifar10\nteacher: kept from an earlier run\n", "between"),
        ("", "between"),
    ],
)
def test_where_a_kill_fell_is_read_from_the_log(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "log.txt").write_text(text)
    assert place_of(tmp_path / "log.txt") == place
    assert place_of(tmp_path / "absent.txt") == "between"


class Scripted(kill_resume.Judge):
    """A judge whose runs take no time: `spoiled` attempts leave other weights behind."""

    def __init__(self, folder: Path, spoiled: bool) -> None:
        super().__init__(None, folder, Options("foundation", quick=True))  # pyright: ignore[reportArgumentType]
        self.seconds, self.spoiled, self.instants = 10.0, spoiled, list[float]()

    def _run(self, runs: Path, instant: float | None) -> bool:
        if instant is not None:
            self.instants.append(instant)
            return len(self.instants) != 1  # the first one ends before its kill
        shelf = runs / "train-1"
        shelf.mkdir(parents=True)
        (shelf / "weights.safetensors").write_bytes(b"b" if self.spoiled and "trial" in runs.name else b"a")
        (shelf / "done").write_bytes(b"")
        return False


@pytest.mark.parametrize("spoiled", [False, True])
def test_a_trial_is_killed_at_its_instant_and_compared(tmp_path: Path, spoiled: bool) -> None:
    (tmp_path / "reference" / "cache" / "precision").mkdir(parents=True)
    judge = Scripted(tmp_path, spoiled)
    judge._run(tmp_path / "reference", None)
    judge.expected = snapshot(tmp_path / "reference")
    trial = judge.trial(3, 20)
    assert len(trial.kills) == 2  # an odd trial is killed twice
    assert 10 * 3 / 20 <= judge.instants[0] < 10 * 4 / 20
    assert judge.instants[1] < 0.95 * 10 * 4 / 20  # earlier, since the first came too late
    assert bool(trial.differences) == spoiled
    assert (tmp_path / "trial-03").exists() == spoiled  # what differs is kept to be looked at
    assert judge.instants[0] == (3 + random.Random(3).random()) / 20 * 10


def test_the_zoo_takes_small_bundles_that_predict(tmp_path: Path) -> None:
    from benchmarks.zoo import copy, main

    from edgepress.runtime.bundle import save_bundle

    signature = Signature("classification", InputSpec(8, 8), ("a", "b"))
    large = Program(signature, "onnxruntime", "fp32", {"model.onnx": bytes(1_000_001)})
    save_bundle(large, tmp_path / "large")
    with pytest.raises(BundleError, match="at most 1000000"):
        copy(tmp_path / "large", tmp_path / "zoo" / "x")
    assert not (tmp_path / "zoo").exists()
    assert main(["--chosen", str(tmp_path / "absent.json")]) == EdgepressError.exit_code


def test_the_zoo_keeps_every_byte_of_the_model(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from benchmarks.zoo import main

    from edgepress.runtime.bundle import read_bundle, save_bundle

    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "mean",
        [value("x", 1, ["n", 3, 8, 8])],
        [value("y", 1, ["n", 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    signature = Signature("classification", InputSpec(8, 8), ("a", "b", "c"))
    program = Program(signature, "onnxruntime", "fp32", {"model.onnx": model.SerializeToString()})
    save_bundle(program, tmp_path / "made")
    chosen = {"resnet8-kd-int8": {"seed": 1, "bundle": str(tmp_path / "made")}}
    (tmp_path / "chosen.json").write_text(json.dumps(chosen))
    assert main(["--chosen", str(tmp_path / "chosen.json"), "--zoo", str(tmp_path / "zoo")]) == 0
    copied = read_bundle(tmp_path / "zoo" / "cifar10-resnet8-int8")
    assert dict(copied.files) == dict(program.files)


def test_the_default_of_a_pair_is_one_of_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.figures import distill_pairs as figure

    from edgepress.models.build import build
    from edgepress.train.auto import kin, kind_of
    from edgepress.train.stages import Distill

    assert figure.default_method("wrn_40_2", "wrn_16_2") == "review"
    assert {figure.default_method(*pair) for pair in figure.PAIRS if "mobilenet" in pair[1]} == {"review"}
    classes = tuple(f"class {number}" for number in range(100))
    signature = Signature("classification", InputSpec(32, 32), classes)
    for teacher, student in figure.PAIRS:
        both = [Model(build(Builder(name), signature), Builder(name), signature) for name in (student, teacher)]
        stage = Distill(epochs=1, teacher="$teacher", model=student)
        assert kind_of(stage, both[0], both[1:]) == kin(Builder(student), Builder(teacher)), "their stages meet"

    made: list[tuple[str, str, list[str]]] = []
    monkeypatch.setattr(figure, "_pair", lambda *pair_and_methods: made.append(pair_and_methods[:3]) or [])
    asked = Options("distill", "distill-pairs", parts=("wrn_40_2-wrn_16_2-dkd", "resnet56-mobilenet_v2_half"))
    assert figure.measure(asked) == []
    half = ("cifar_resnet56", "benchmarks.networks:mobilenet_v2_half", list(figure.WAYS))
    assert made == [("wrn_40_2", "wrn_16_2", ["dkd"]), half]
    with pytest.raises(EdgepressError, match="vgg13-vgg8"):
        figure.measure(Options("distill", "distill-pairs", parts=("vgg13-vgg9",)))
