import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepress.core.errors import BundleError
from edgepress.export.onnx import export_onnx, to_onnx
from edgepress.export.packed import compress, deflate
from edgepress.export.qdq import shorten
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.runtime.engine import engines
from edgepress.runtime.hardware import may_saturate
from edgepress.runtime.packed import PACKED, PLAIN, expand, onnx_file
from edgepress.runtime.packing import WIDTHS, limits
from export.test_onnx import FLOAT_KERNELS, KERNELS, kernels
from quantize.nets import images, make, quantized


def model(arrays: list[np.ndarray]) -> bytes:
    tensors = [numpy_helper.from_array(array, f"t{number}") for number, array in enumerate(arrays)]
    graph = helper.make_graph([], "g", [], [], tensors)
    return helper.make_model(graph, ir_version=10).SerializeToString()


@st.composite
def tensors(draw) -> list[np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    found: list[np.ndarray] = []
    for _ in range(draw(st.integers(0, 6))):
        count, bits, signed = draw(st.integers(0, 300)), draw(st.sampled_from(WIDTHS)), draw(st.booleans())
        low, high = limits(bits, signed)
        codes = np.clip(np.rint(rng.normal(0, 2 ** (bits - 3), count)), low, high)
        if draw(st.booleans()):
            codes = np.clip(codes // 2 * 2 + 1, -127 if signed else 0, 127 if signed else 255)
        kind = draw(st.sampled_from([np.float32, np.int64, np.int8 if signed else np.uint8]))
        found.append(codes.astype(kind))
    return found


@given(tensors())
@settings(max_examples=30)
def test_every_file_comes_back_byte_for_byte(arrays: list[np.ndarray]) -> None:
    data = model(arrays)
    assert expand(compress(data)) == data


@pytest.mark.parametrize("bits", WIDTHS)
def test_a_packed_file_takes_no_more_than_its_bits(bits: int) -> None:
    """Codes that are all equally frequent cannot be compressed further; frequent small ones can."""
    low, high = limits(bits, True)
    rng = np.random.default_rng(0)
    even = rng.integers(low, high + 1, 20_000).astype(np.int8)
    bell = np.clip(np.rint(rng.normal(0, high / 2.5, 20_000)), low, high).astype(np.int8)
    even_bytes, bell_bytes = (len(compress(model([codes]))) for codes in (even, bell))
    assert 20_000 * bits / 8 < even_bytes < 20_000 * bits / 8 + 150
    assert bell_bytes < even_bytes


def test_two_bits_hold_four_odd_codes() -> None:
    codes = (2 * np.random.default_rng(0).integers(-2, 2, 20_000) + 1).astype(np.int8)
    assert set(codes.tolist()) == {-3, -1, 1, 3}
    assert len(compress(model([codes]))) < 20_000 * 2 / 8 + 150


def test_no_byte_is_without_meaning() -> None:
    """A changed bit is refused or becomes another file, but for the few that no deflated stream reads at its end."""
    data = model([np.arange(-2, 2, dtype=np.int8).repeat(5), np.ones(4, np.float32)])
    packed, unread = compress(data), 0
    for position in range(8 * len(packed)):
        spoiled = bytearray(packed)
        spoiled[position // 8] ^= 1 << position % 8
        try:
            unread += expand(bytes(spoiled)) == data
        except BundleError:
            continue
    assert unread <= 3 * 7


@pytest.mark.parametrize("size", [0, 1, 50, 5000])
def test_deflate_is_plain_deflate(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert zlib.decompress(deflate(data), -zlib.MAX_WBITS) == data


@pytest.mark.parametrize("bits", [2, 7])
def test_narrow_weights_are_packed_and_run_integer_kernels(bits: int, tmp_path: Path) -> None:
    narrow = quantize(make("Residual"), images(24), QuantizeConfig(weights=bits))
    program = export_onnx(narrow, images(24))
    assert list(program.files) == [PACKED] and program.precision == f"w{bits}a8"
    plain = onnx_file(program)
    assert plain == to_onnx(narrow)
    found = kernels(plain, tmp_path)
    assert {op: found[op] for op in KERNELS["Residual"]} == KERNELS["Residual"] and not FLOAT_KERNELS & set(found)
    onnx.checker.check_model(onnx.load_from_string(plain), full_check=True)
    options = onnxruntime.SessionOptions()
    if may_saturate(program):  # as the engine does: its sums, not those of a processor without VNNI
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(plain, options, providers=["CPUExecutionProvider"])
    inputs = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    outputs = engines.get("onnxruntime").load(program, 1)(inputs)
    np.testing.assert_array_equal(session.run(None, {"input": inputs})[0], outputs)


def test_eight_bits_stay_a_plain_file() -> None:
    assert list(export_onnx(quantized("Residual"), images(24)).files) == [PLAIN]


def test_weights_in_attributes_and_other_types_stay_where_they_are() -> None:
    value = numpy_helper.from_array(np.zeros(99, np.float32))
    node = helper.make_node("Constant", [], ["c"], value=value)
    typed = helper.make_tensor("t", TensorProto.FLOAT, [20], list(range(20)))  # float_data, not raw
    data = helper.make_model(helper.make_graph([node], "g", [], [], [typed])).SerializeToString()
    assert expand(compress(data)) == data


@given(st.integers(0, 999), st.floats(1e-6, 1e-1), st.integers(1, 20))
def test_short_biases_stand_for_the_same_integers(seed: int, unit: float, bits: int) -> None:
    rng = np.random.default_rng(seed)
    units = (unit * rng.uniform(0.5, 2, 40)).astype(np.float32)
    multiples = rng.integers(-(2**bits), 2**bits + 1, 40)
    values = (multiples * units.astype(np.float64)).astype(np.float32)
    short = shorten(values, units)
    assert short.dtype == np.float32
    np.testing.assert_array_equal(np.rint(short / units), multiples)
    kept = np.frexp(short)[0] * 2**24  # significant bits, as integers
    assert (kept % 2 ** (24 - min(24, bits + 2)) == 0).all()
