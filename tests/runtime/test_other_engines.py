"""Engines beside ONNX Runtime: what they refuse. What they compute is tested with their exporters."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.errors import BundleError, DataError, MissingExtraError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.engine import engines
from edgepress.runtime.pt2_engine import refuse_pickles
from runtime.tiny import classifier

OTHERS = ("executorch", "litert", "ncnn", "openvino", "pt2", "tensorrt")
HERE = [name for name in OTHERS if name in engines and engines.get(name).available() is None]


@pytest.mark.parametrize("name", OTHERS)
def test_an_engine_says_in_one_line_why_it_is_not_available(name: str) -> None:
    engine = engines.get(name)
    reason = engine.available()
    assert (reason is None) == bool(engine.versions())
    if reason is not None:
        assert "\n" not in reason and len(reason) < 200
        with pytest.raises(MissingExtraError, match="edgepress"):
            engine.load(dataclasses.replace(classifier(InputSpec(8, 8)), runtime=name), 1)


@pytest.mark.parametrize("name", HERE)
def test_a_bundle_without_its_file_or_without_threads_is_refused(name: str) -> None:
    program = dataclasses.replace(classifier(InputSpec(8, 8)), runtime=name)
    with pytest.raises(DataError, match="at least one thread, got 0"):
        engines.get(name).load(program, 0)
    with pytest.raises(BundleError, match=r"holds no .*, only model\.onnx"):
        engines.get(name).load(program, 1)


def archive(files: dict[str, bytes]) -> bytes:
    """Return a `.pt2` archive of these members."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as out:
        for name, content in files.items():
            out.writestr(f"model/{name}", content)
    return data.getvalue()


def graph_node(target: str = "torch.ops.aten.relu.default") -> dict[str, object]:
    """Return a call as it stands in the JSON of a graph."""
    return {"target": target, "inputs": [], "outputs": []}


CONFIG = "data/weights/model_weights_config.json"
GOOD = {
    "archive_format": b"pt2",
    "data/sample_inputs/model.pt": b"",
    "data/weights/weight_0": bytes(12),
    "models/model.json": json.dumps(
        {"nodes": [graph_node()], "sizes": [{"as_expr": {"expr_str": "Mul(Integer(2), Symbol('s77', positive=True))"}}]}
    ).encode(),
    CONFIG: json.dumps({"config": {"w": {"path_name": "weight_0", "use_pickle": False}}}).encode(),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({CONFIG: GOOD[CONFIG].replace(b"false", b"true")}, "pickled tensors"),
        ({"data/sample_inputs/model.pt": b"\x80\x02."}, "pickled sample inputs"),
        ({"data/weights/model.pt": b"\x80\x02."}, "which ours have not"),
        ({"data/constants/custom_obj_0": b"x"}, "which ours have not"),
        ({"data/constants/model.pt": b"\x80\x02."}, "which ours have not"),
        ({"data/aotinductor/model/evil.so": b"x"}, "which ours have not"),
        ({CONFIG: b"[]"}, "damaged"),
        ({"models/model.json": b'{"a": [{"expr_str": "lambdify([], \'__import__\')()"}]}'}, "could run code"),
        ({"models/model.json": b'{"expr_str": "9**9**9**9"}'}, "could run code"),
        ({"models/model.json": b'{"expr_str": "' + b"1" * 5000 + b'"}'}, "could run code"),
        ({"models/model.json": b'{"guards_code": ["exit()"]}'}, "guards, which are code"),
        ({"models/model.json": json.dumps(graph_node("torch.os.system")).encode()}, "which is no operator"),
        ({"models/model.json": b"[" * 100_000}, "damaged"),
    ],
)
def test_a_pt2_archive_that_could_run_code_is_refused(change: dict[str, bytes], message: str) -> None:
    refuse_pickles(archive(GOOD))
    with pytest.raises(BundleError, match=message):
        refuse_pickles(archive({**GOOD, **change}))


def test_a_pt2_archive_that_two_readers_read_differently_is_refused() -> None:
    twice, small = io.BytesIO(archive(GOOD)), io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as out:
        out.writestr(f"model/{CONFIG}", GOOD[CONFIG])
    with pytest.raises(BundleError, match="two files of one name"):
        refuse_pickles(twice.getvalue())
    with zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("model/archive_format", bytes(10_000_000))
    with pytest.raises(BundleError, match="compressed files"):
        refuse_pickles(small.getvalue())


@given(st.binary(max_size=200), st.integers(0, 400))
def test_garbage_is_refused_or_passed_on_but_never_a_crash(noise: bytes, position: int) -> None:
    good = archive(GOOD)
    for data in (noise, good[:position] + noise + good[position:]):
        try:
            refuse_pickles(data)
        except BundleError as error:
            assert "model.pt2" in str(error)


@pytest.mark.skipif("openvino" not in HERE, reason="OpenVINO is not installed")
def test_openvino_takes_any_batch_and_nothing_else(tmp_path: Path) -> None:
    from edgepress.export.openvino import to_openvino

    onnx = classifier(InputSpec(8, 8))
    program = to_openvino(onnx)
    session = engines.get("openvino").load(program, 1)
    images = np.random.default_rng(0).standard_normal((9, 3, 8, 8), dtype=np.float32)
    expected = engines.get("onnxruntime").load(onnx, 1)(images)
    for count in (1, 2, 3, 4, 5, 6, 9, 1):  # more sizes than there are compiled networks
        np.testing.assert_allclose(session(images[:count]), expected[:count], rtol=1e-5)
    with pytest.raises(DataError, match="does not take a batch"):
        session(images[:, :, :4])
    with pytest.raises(BundleError, match="cannot load"):
        engines.get("openvino").load(dataclasses.replace(program, files={**program.files, "model.xml": b"<net/>"}), 1)
    wide = dataclasses.replace(program.signature, labels=("a", "b", "c", "d"))
    with pytest.raises(BundleError, match="4 labels"):
        engines.get("openvino").load(dataclasses.replace(program, signature=wide), 1)


@pytest.mark.parametrize("asked", [1, 2])
def test_executorch_takes_the_threads_it_was_given(asked: int) -> None:
    from edgepress.runtime.executorch_engine import _set_threads

    class Library:
        threads = 2

        def _threadpool_get_thread_count(self) -> int:
            return self.threads

        def _unsafe_reset_threadpool(self, threads: int) -> None:
            assert threads != self.threads, "a pool of the right size is left alone"
            self.threads = threads

    library = Library()
    _set_threads(library, asked)
    assert library.threads == asked
    _set_threads(object(), asked)  # a version without them
