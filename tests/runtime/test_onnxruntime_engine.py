import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, DataError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.engine import Session, engines
from edgepress.runtime.onnx_wire import refuse_external_data

from .tiny import LABELS, classifier, onnx_file

ENGINE = engines.get("onnxruntime")
SPEC = InputSpec(8, 8)


def load(data: bytes, spec=SPEC, labels=LABELS) -> Session:
    signature = Signature("classification", spec, labels)
    return ENGINE.load(Program(signature, "onnxruntime", "fp32", {"model.onnx": data}), 1)


def external(location: str) -> TensorProto:
    """Return a factor that is said to lie in another file."""
    tensor = TensorProto(name="s", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def scaled(tensor: TensorProto | None, extra=()) -> bytes:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        *extra,
        helper.make_node("Mul", ["m", "s"], ["y"]),
    ]
    return onnx_file(nodes, [tensor] if tensor else [], SPEC, [3])


def test_runs_on_a_given_number_of_threads():
    images = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    for threads in (1, 2):
        session = ENGINE.load(classifier(SPEC, 4), threads)
        assert session.input_dtype == np.float32 and session.batch is None
        np.testing.assert_allclose(session(images), 4 * images.mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match="at least one thread"):
        ENGINE.load(classifier(SPEC), 0)


def test_versions_and_availability():
    assert ENGINE.available() is None
    assert set(ENGINE.versions()) == {"onnxruntime"}


def test_half_precision_inputs_are_exposed_and_converted():
    session = ENGINE.load(classifier(SPEC, kind=TensorProto.FLOAT16), 1)
    assert session.input_dtype == np.float16
    result = session(np.ones((2, 3, 8, 8), np.float32))
    assert result.dtype == np.float32 and (result == 4).all()


def test_a_fixed_batch_is_exposed():
    assert ENGINE.load(classifier(SPEC, batch=2), 1).batch == 2


@pytest.mark.parametrize(
    "images", [np.ones((1, 3, 8, 9), np.float32), np.ones((3, 8, 8), np.float32), np.ones((1, 8, 8, 3), np.float32)]
)
def test_a_batch_that_does_not_fit(images):
    with pytest.raises(DataError, match="does not take a batch of shape"):
        load(classifier(SPEC).files["model.onnx"])(images)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_another_dtype_is_not_converted_in_silence(dtype):
    with pytest.raises(DataError, match="normalized float32"):
        load(classifier(SPEC).files["model.onnx"])(np.ones((1, 3, 8, 8), dtype))


@pytest.mark.parametrize("where", ["inside.bin", "../outside.bin", "/dev/zero", "absolute"])
def test_tensors_in_other_files_are_refused(tmp_path, monkeypatch, where):
    """onnxruntime itself opens `inside.bin`, relative to the working folder, also for a model given as bytes."""
    (tmp_path / "inside.bin").write_bytes(bytes(12))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="tensors in another file"):
        load(scaled(external(os.path.join(tmp_path, "inside.bin") if where == "absolute" else where)))


def test_tensors_in_other_files_are_found_in_attributes_branches_and_functions():
    constant = helper.make_node("Constant", [], ["s"], value=external("a"))
    branch = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("s", 1, [3])])
    choice = helper.make_node("If", ["c"], ["s"], then_branch=branch, else_branch=branch)
    function = helper.make_function("own", "F", [], ["s"], [constant], [helper.make_opsetid("", 17)])
    graph = helper.make_graph([], "g", [], [])
    with_function = helper.make_model(graph, functions=[function]).SerializeToString()
    for data in (scaled(None, [constant]), scaled(None, [choice]), with_function):
        with pytest.raises(BundleError, match="tensors in another file"):
            refuse_external_data(data, "model.onnx")


def test_a_whole_file_passes_the_walk():
    value = numpy_helper.from_array(np.ones(3, np.float32), "s")
    refuse_external_data(scaled(value), "model.onnx")
    refuse_external_data(scaled(None, [helper.make_node("Constant", [], ["s"], value=value)]), "model.onnx")


@given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
def test_garbage_is_refused_or_passed_on_but_never_a_crash(noise, position, cut):
    good = classifier(SPEC).files["model.onnx"]
    for data in (noise, good[:position] if cut else good[:position] + noise + good[position:]):
        try:
            refuse_external_data(data, "model.onnx")
        except BundleError as error:
            assert "model.onnx" in str(error)


def test_deep_nesting_is_refused():
    data = b""
    for _ in range(200):  # graph in attribute in node in graph ...
        for field in (6, 5, 1):
            size = len(data)
            data = bytes([field << 3 | 2, size & 0x7F | 0x80, (size >> 7) & 0x7F | 0x80, size >> 14]) + data
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        refuse_external_data(
            b"\x3a" + bytes([len(data) & 0x7F | 0x80, (len(data) >> 7) & 0x7F | 0x80, len(data) >> 14]) + data, "m"
        )


@pytest.mark.parametrize("data", [b"", b"garbage", classifier(SPEC).files["model.onnx"][:100]])
def test_damaged_files(data):
    with pytest.raises(BundleError, match=r"model\.onnx"):
        load(data)


def test_operators_of_others_are_refused():
    node = helper.make_node("Evil", ["x"], ["y"], domain="someone.else")
    with pytest.raises(BundleError, match=r"cannot load model\.onnx"):
        load(onnx_file([node], [], SPEC, [3]))


def test_the_file_must_fit_the_manifest():
    data = classifier(SPEC).files["model.onnx"]
    with pytest.raises(BundleError, match="the manifest states"):
        load(data, InputSpec(9, 8))
    with pytest.raises(BundleError, match="4 labels"):
        load(data, labels=(*LABELS, "more"))
    with pytest.raises(BundleError, match=r"no model.onnx and no model.packed, only other.bin"):
        ENGINE.load(replace(classifier(SPEC), files={"other.bin": b""}), 1)


def test_one_input_one_output_of_a_known_type():
    info = helper.make_tensor_value_info
    two = helper.make_graph([helper.make_node("Add", ["x", "z"], ["y"])], "g",
                            [info("x", 1, [1, 3, 8, 8]), info("z", 1, [1])], [info("y", 1, [1, 3, 8, 8])])  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    with pytest.raises(BundleError, match="has 2 inputs"):
        load(helper.make_model(two, opset_imports=opsets, ir_version=9).SerializeToString())
    with pytest.raises(BundleError, match="takes tensor"):
        load(onnx_file([helper.make_node("Identity", ["x"], ["y"])], [], SPEC, [3, 8, 8], kind=TensorProto.DOUBLE))


def test_no_rounding_is_left_out() -> None:
    scales = {"s": np.float32(0.3), "t": np.float32(0.07)}
    tensors = [numpy_helper.from_array(value, name) for name, value in scales.items()]
    tensors += [numpy_helper.from_array(np.uint8(zero), name) for name, zero in (("z", 100), ("o", 0))]
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"]),
        helper.make_node("QuantizeLinear", ["b", "t", "o"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "t", "o"], ["y"]),
    ]
    spec = InputSpec(8, 8)
    program = Program(
        Signature("classification", spec, LABELS),
        "onnxruntime",
        "w8a8",
        {"model.onnx": onnx_file(nodes, tensors, spec, [3])},
    )
    means = np.linspace(-3, 12, 60, dtype=np.float32).reshape(20, 3, 1, 1)
    got = engines.get("onnxruntime").load(program, 1)(np.tile(means, (1, 1, 8, 8)))
    once = np.rint(means[:, :, 0, 0] / 0.3) * 0.3
    np.testing.assert_allclose(got, np.clip(np.rint(once / 0.07), 0, 255) * 0.07, atol=1e-5)
