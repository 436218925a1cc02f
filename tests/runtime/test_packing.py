import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepress.core.errors import DataError
from edgepress.runtime.packing import WIDTHS, limits, pack, packed_bytes, unpack

widths = st.sampled_from(WIDTHS)


@st.composite
def codes(draw):
    """Draw an array of any shape, its width and its sign."""
    bits, signed = draw(widths), draw(st.booleans())
    low, high = limits(bits, signed)
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=7))
    kind = draw(st.sampled_from([np.int16, np.int64, np.int8 if signed else np.uint8]))
    return draw(arrays.arrays(kind, shape, elements=st.integers(low, high))), bits, signed


@given(codes())
def test_every_width_and_shape_comes_back(drawn):
    given_codes, bits, signed = drawn
    data = pack(given_codes, bits, signed)
    assert len(data) == packed_bytes(given_codes.size, bits) == -(-given_codes.size * bits // 8)
    result = unpack(data, bits, given_codes.size, signed)
    assert result.dtype == (np.int8 if signed else np.uint8)
    np.testing.assert_array_equal(result, given_codes.ravel())


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("signed", [True, False])
def test_the_layout_is_little_endian_bits(bits, signed):
    low, high = limits(bits, signed)
    given_codes = np.random.default_rng(bits).integers(low, high + 1, 1001)
    stream = "".join(format(int(code) % 2**bits, f"0{bits}b")[::-1] for code in given_codes)
    stream += "0" * (-len(stream) % 8)
    expected = bytes(int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8))
    assert pack(given_codes, bits, signed) == expected
    np.testing.assert_array_equal(unpack(expected, bits, 1001, signed), given_codes)


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "INT2", "UINT2"])
def test_onnx_agrees(kind):
    onnx = pytest.importorskip("onnx")
    signed, bits = not kind.startswith("U"), int(kind[-1])
    low, high = limits(bits, signed)
    given_codes = np.random.default_rng(0).integers(low, high + 1, 33).astype(np.int8 if signed else np.uint8)
    tensor = onnx.TensorProto(dims=[33], data_type=getattr(onnx.TensorProto, kind))
    tensor.raw_data = pack(given_codes, bits, signed)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor).astype(np.int8), given_codes)


@given(widths, st.booleans(), st.integers(0, 40), st.binary(max_size=40))
def test_any_bytes_are_codes_or_refused(bits, signed, count, data):
    """What is accepted packs to the same bytes: there are no two ways to write one thing."""
    try:
        result = unpack(data, bits, count, signed)
    except DataError as error:
        assert any(word in str(error) for word in ("truncated", "over-long", "padding"))
    else:
        assert pack(result, bits, signed) == data


def test_damage_is_named():
    data = pack(np.array([1, -2, 3], np.int8), 3)
    with pytest.raises(DataError, match="truncated: 3 of 3 bits take 2 bytes, got 1"):
        unpack(data[:1], 3, 3)
    with pytest.raises(DataError, match="over-long"):
        unpack(data + b"\0", 3, 3)
    with pytest.raises(DataError, match="the last 7 bits must be 0"):
        unpack(bytes([data[0], data[1] | 0x80]), 3, 3)
    with pytest.raises(DataError, match="cannot be negative"):
        unpack(b"", 4, -1)


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 16])
def test_other_widths_are_refused(bits):
    with pytest.raises(DataError, match="2 to 8 bits"):
        pack(np.zeros(4, np.int8), bits)
    with pytest.raises(DataError, match="2 to 8 bits"):
        unpack(b"\0", bits, 1)


@pytest.mark.parametrize("bits", WIDTHS)
def test_codes_that_do_not_fit_are_refused(bits):
    for signed in (True, False):
        for code in (limits(bits, signed)[0] - 1, limits(bits, signed)[1] + 1):
            with pytest.raises(DataError, match="do not fit"):
                pack(np.array([0, code]), bits, signed)


@pytest.mark.parametrize("wrong", [np.zeros(3, np.float32), np.zeros(3, bool), np.array(["1"])])
def test_only_integers_are_packed(wrong):
    with pytest.raises(DataError, match="only integers"):
        pack(wrong, 4)
