"""The measures, on artifacts small enough to know the answer."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.core.artifact import Builder, Model, Program, Signature
from edgepress.core.config import dump, parse
from edgepress.core.errors import ConfigError, DataError, EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.data.base import Data
from edgepress.measure.base import Measure, MeasureContext, Quiet, measures
from edgepress.measure.load import fresh
from edgepress.measure.rows import Row

INPUT = InputSpec(4, 4, 1, (0.5,), (0.5,), "L")
SIGNATURE = Signature("classification", INPUT, ("a", "b", "c"))


@dataclass(frozen=True)
class Images:
    """`count` images whose first pixel is their class."""

    count: int
    resident: bool = True

    def __len__(self) -> int:
        return self.count

    def read(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        images = np.zeros((len(indices), 4, 4, 1), np.uint8)
        images[:, 0, 0, 0] = indices % 3
        return images, indices % 3


@dataclass(frozen=True)
class Reader:
    """A predictor that reads the class off the image, and is wrong about every `wrong`-th of a batch."""

    wrong: int = 0
    signature: Signature = SIGNATURE
    value: float = 1.0

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        classes = images[:, 0, 0, 0].astype(np.int64)
        if self.wrong:
            classes[:: self.wrong] = (classes[:: self.wrong] + 1) % 3
        return np.eye(3, dtype=np.float32)[classes] * np.float32(self.value)


@dataclass
class Telling(Quiet):
    """Remembers what was said."""

    said: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)


def _data(count: int = 40) -> Data:
    split = Images(count)
    return Data("fake", "classification", SIGNATURE.labels, INPUT, split, Images(10), split, "f")


def _context(**more: object) -> MeasureContext:
    given = {"data": _data(), "predictor": Reader(), "label": "student", "progress": Quiet(), "seeds": "0", **more}
    return MeasureContext(**given)  # type: ignore[arg-type]


PROGRAM = Program(SIGNATURE, "onnxruntime", "w8a8", {"model.onnx": b"12345", "extra.bin": b"678"})


def _run(
    name: str, artifact: Model | Program = PROGRAM, fields: dict[str, object] | None = None, **more: object
) -> list[Row]:
    return parse(measures.get(name), fields or {})(artifact, _context(**more))


@pytest.fixture
def model() -> Iterator[Model]:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    yield Model(module, Builder("linear"), SIGNATURE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-layer network as a bundle."""
    onnx = pytest.importorskip("onnx")
    from edgepress.runtime.bundle import save_bundle

    weights = onnx.numpy_helper.from_array(np.zeros((16, 3), np.float32), "w")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["input"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "w"], ["output"]),
        ],
        "tiny",
        [value("input", onnx.TensorProto.FLOAT, ["n", 1, 4, 4])],
        [value("output", onnx.TensorProto.FLOAT, ["n", 3])],
        [weights],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    save_bundle(Program(SIGNATURE, "onnxruntime", "fp32", {"model.onnx": made.SerializeToString()}), folder)
    return folder


@pytest.mark.parametrize("name", list(measures))
def test_every_measure_is_plain_data(name: str) -> None:
    kind = measures.get(name)
    made = parse(kind, {})
    assert isinstance(made, Measure) and parse(kind, dump(made)) == made
    with pytest.raises(ConfigError, match="unknown field"):
        parse(kind, {"treads": 1})


@pytest.mark.parametrize(
    ("name", "fields"),
    [("latency", {"threads": 0}), ("latency", {"seconds": 0}), ("quality", {"batch": 0}), ("load", {"repeats": 0}),
     ("quality", {"split": "train"}), ("agreement", {"images": -1})],
)  # fmt: skip
def test_impossible_settings_are_refused(name: str, fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse(measures.get(name), fields)


def test_quality_counts_the_whole_split_in_batches() -> None:
    top1 = {row.metric: row for row in _run("quality", fields={"batch": 10}, predictor=Reader(wrong=5))}["top1"]
    assert (top1.value, top1.n, top1.unit, top1.split, top1.better) == (80.0, 40, "%", "test", "higher")
    assert (top1.artifact, top1.runtime, top1.precision, top1.seeds) == ("student", "onnxruntime", "w8a8", "0")
    assert top1.machine and top1.versions and top1.date.endswith("Z")


def test_validation_scores_carry_another_name() -> None:
    rows = {row.metric: row for row in _run("quality", fields={"split": "val", "images": 6})}
    assert rows["val_top1"].n == 6 and "top1" not in rows


def test_quality_refuses_nan_and_an_empty_split() -> None:
    with pytest.raises(EdgepressError, match="not finite"):
        _run("quality", predictor=Reader(value=float("nan")))
    with pytest.raises(DataError, match="no images in its test split"):
        _run("quality", data=_data(0))


def test_agreement_is_with_the_parent_and_the_teacher_right_or_wrong() -> None:
    rows = _run("agreement", fields={"batch": 15}, parent=Reader(wrong=5), teacher=Reader(), predictor=Reader(wrong=5))
    assert [(row.metric, row.value, row.n) for row in rows] == [
        ("agreement_parent", 100.0, 40), ("agreement_teacher", 80.0, 40)
    ]  # fmt: skip
    assert _run("agreement") == []


def test_the_size_of_a_program_is_its_files() -> None:
    assert [(row.metric, row.value) for row in _run("size")] == [("bytes", 8.0)]


def test_the_size_of_a_model_counts_shared_tensors_once(model: Model) -> None:
    pytest.importorskip("edgepress.models.count")
    rows = {row.metric: row.value for row in _run("size", model)}
    assert rows == {"params": 51.0, "macs": 48.0, "bytes": 51 * 4.0}
    model.module.add_module("again", model.module[1])
    from edgepress.measure.size import state_bytes

    assert state_bytes(model.module) == 51 * 4


def test_latency_of_a_model_leaves_it_as_it_was(model: Model) -> None:
    import torch

    model.module[0].eval()
    before, threads = [part.training for part in model.module.modules()], torch.get_num_threads()
    progress = Telling()
    rows = _run("latency", model, {"rounds": 20, "batch": 2}, progress=progress)
    found = {row.metric: row for row in rows}
    assert set(found) == {"latency_b2", "latency_p90_b2", "throughput_b2", "latency_spread_b2"}
    latency = found["latency_b2"]
    assert (latency.n, latency.threads, latency.batch, latency.runtime, latency.unit) == (20, 1, 2, "torch", "ms")
    assert latency.p50 == latency.value <= found["latency_p90_b2"].value <= (latency.p99 or 0)
    assert (found["latency_spread_b2"].value > 25) == any("varied" in text for text in progress.said)
    assert [part.training for part in model.module.modules()] == before
    assert torch.get_num_threads() == threads


def test_latency_of_a_program_runs_its_engine(bundle: Path) -> None:
    from edgepress.runtime.bundle import read_bundle

    rows = {row.metric: row for row in _run("latency", read_bundle(bundle), {"rounds": 20, "batch": 64})}
    assert rows["latency_b64"].runtime == "onnxruntime"
    assert rows["throughput_b64"].value > 64


def test_threads_that_cannot_be_pinned_are_told(model: Model) -> None:
    progress = Telling()
    _run("latency", model, {"rounds": 3, "threads": 4096 if sys.platform == "linux" else 1}, progress=progress)
    assert any("could not be pinned" in text for text in progress.said)


def test_a_fresh_process_loads_and_predicts(bundle: Path) -> None:
    from edgepress.runtime.bundle import read_bundle

    rows = {row.metric: row for row in _run("load", read_bundle(bundle), {"repeats": 1}, bundle=bundle)}
    assert 0 < rows["load"].value < rows["first_prediction"].value
    assert 10 < rows["peak_rss"].value < 1000
    assert _run("load", read_bundle(bundle), {"repeats": 1}), "a program that lies nowhere is put down for it"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_peak_is_not_that_of_the_process_that_measures() -> None:
    code = (
        "import subprocess, sys\nheld = b'x' * 400_000_000\n"
        "ask = 'from edgepress.measure.fresh import peak_rss_bytes; print(peak_rss_bytes())'\n"
        "print(subprocess.run([sys.executable, '-c', ask], capture_output=True, text=True, check=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5_000_000 < int(done.stdout) < 200_000_000


def test_a_fresh_process_that_fails_or_hangs_is_told(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(EdgepressError, match=r"exit code 1(.|\n)*no bundle at"):
        fresh(tmp_path)
    with pytest.raises(EdgepressError, match=r"no answer in 0\.001 s"):
        fresh(bundle, seconds=0.001)


def test_models_have_no_bundle_to_load(model: Model) -> None:
    assert _run("load", model) == []


def test_the_speed_of_a_training_names_its_arithmetic(model: Model) -> None:
    notes = {"images_per_second": 1200.0, "precision": "bf16", "batch": 128, "threads": 2, "device": "cpu", "epochs": 4}
    [row] = _run("training", model, notes=notes)
    assert (row.metric, row.value, row.precision, row.batch, row.n) == ("train_speed", 1200.0, "bf16", 128, 4)
    assert _run("training", model) == []
