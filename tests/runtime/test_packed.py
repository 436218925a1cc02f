import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.errors import BundleError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.bundle import read_bundle, read_manifest, save_bundle
from edgepress.runtime.engine import engines
from edgepress.runtime.packed import DEFLATED, FLOATS, HEADER, MAGIC, ODD, PACKED, PLAIN, SIGNED, expand, onnx_file

from .tiny import classifier

SPEC = InputSpec(8, 8)


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def table(*rows: tuple[int, ...]) -> bytes:
    """Return a table with numbers below 128, each one byte."""
    return bytes([len(rows), *(number for row in rows for number in row)])


def packed(pools=(), holes=(), text=b"", bodies=b"", magic=MAGIC) -> bytes:
    outline = table(*pools) + table(*holes) + text
    deflated = deflate(outline)
    return HEADER.pack(magic, len(outline), len(deflated)) + deflated + bodies


FLOAT = struct.pack("<2f", 1.5, -2.0)
PLANES = deflate(np.frombuffer(FLOAT, np.uint8).reshape(2, 4).T.tobytes())
POOLS = ((2 | SIGNED, 5, 2), (FLOATS, 2, len(PLANES)), (4 | DEFLATED, 2, len(deflate(b"\x21"))))
HOLES = ((1, 0, 3), (0, 1, 2), (2, 0, 2), (0, 2, 2))
BODIES = bytes([0b11_00_11_01, 0b01]) + PLANES + deflate(b"\x21")
GOOD = packed(POOLS, HOLES, b"abcd", BODIES)


def test_a_file_written_by_hand():
    assert expand(GOOD) == b"a" + b"\x01\xff\x00" + FLOAT + b"bc" + b"\xff\x01" + b"\x01\x02" + b"d"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (GOOD[:5], "5 bytes"),
        (b"onnx" + GOOD[4:], "does not begin like one"),
        (packed(magic=b"epk\x02"), "version 2, this edgepress reads 1"),
        (GOOD[:-1], "truncated: the pools take"),
        (GOOD + b"\0", "over-long: the pools take"),
        (packed(POOLS, HOLES, b"abcd", bytes([0b11_00_11_01, 0b0101]) + BODIES[2:]), "wrong padding"),
        (packed([(2, 5, 1)], [(0, 0, 5)], b"", b"\0"), "truncated: 5 of 2 bits take 2 bytes, got 1"),
        (packed([(9, 1, 1)], [(0, 0, 1)], b"", b"\0"), "unknown kind 9"),
        (packed([(0, 1, 1)], [(0, 0, 1)], b"", b"\0"), "unknown kind 0"),
        (packed([(4 | 128, 1, 1)], [(0, 0, 1)], b"", b"\0"), "unknown kind 132"),
        (packed([(5 | ODD, 1, 1)], [(0, 0, 1)], b"", b"\0"), "unknown kind 69"),
        (packed([(8, 1, 1)], [(0, 1, 1)], b"", b"\0"), "a hole without a pool"),
        (packed([(8, 2, 2)], [(0, 0, 1)], b"", b"\0\0"), "2 numbers for 1 places"),
        (packed([(8, 1, 1)], [(5, 0, 1)], b"abcd", b"\0"), "holes beyond the end"),
        (packed([(8 | DEFLATED, 1, 3)], [(0, 0, 1)], b"", deflate(b"ab")[:3]), "deflated bytes"),
        (packed([(8 | DEFLATED, 1, 4)], [(0, 0, 1)], b"", deflate(b"ab")), "are not 1 bytes"),
        (packed([(FLOATS, 1, 3)], [(0, 0, 1)], b"", deflate(b"a")), "are not 4 bytes"),
        (GOOD[:12] + b"\xff" * 20, "not a readable packed file"),
        (HEADER.pack(MAGIC, 4, 0), "are not 4 bytes"),
        (HEADER.pack(MAGIC, 2**32 - 1, 2) + deflate(b""), "at most"),
    ],
)
def test_damage_is_named(data, reason):
    with pytest.raises(BundleError, match=reason):
        expand(data)


def test_a_few_bytes_do_not_become_gigabytes():
    body = deflate(bytes(80_000_000))
    outline = bytes([1, 8 | DEFLATED, *varint(80_000_000), *varint(len(body))])
    outline += bytes([1, 0, 0, *varint(80_000_000)])
    with pytest.raises(BundleError, match="would become 80000000 bytes"):
        expand(HEADER.pack(MAGIC, len(outline), len(deflate(outline))) + deflate(outline) + body)
    with pytest.raises(BundleError, match="outline states 80000000 bytes"):
        expand(HEADER.pack(MAGIC, 80_000_000, len(body)) + body)
    with pytest.raises(BundleError, match="are not 9 bytes"):  # says little, brings much
        expand(HEADER.pack(MAGIC, 9, len(body)) + body)


def varint(number: int) -> list[int]:
    return [number % 128 | 128, *varint(number // 128)] if number >= 128 else [number]


@given(st.integers(0, len(GOOD)), st.binary(max_size=30), st.booleans())
def test_garbage_is_refused_or_read_but_never_a_crash(position, noise, cut):
    for data in (noise, GOOD[:position] + noise + (b"" if cut else GOOD[position + len(noise) :])):
        try:
            expand(data, "this file")
        except BundleError as error:
            assert "this file: not a readable packed file" in str(error)


def wrapped(data: bytes) -> bytes:
    """Return `data` as a packed file without any pool."""
    return packed(text=data)


def test_a_bundle_runs_packed_and_older_readers_refuse_it(tmp_path):
    plain = classifier(SPEC, 3)
    program = replace(plain, files={PACKED: wrapped(plain.files[PLAIN])})
    save_bundle(program, tmp_path / "packed")
    save_bundle(plain, tmp_path / "plain")
    assert (read_manifest(tmp_path / "packed").format, read_manifest(tmp_path / "plain").format) == (2, 1)
    images = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    engine = engines.get("onnxruntime")
    expected = engine.load(plain, 1)(images)
    np.testing.assert_array_equal(engine.load(read_bundle(tmp_path / "packed"), 1)(images), expected)


def test_one_network_per_bundle():
    plain = classifier(SPEC)
    assert onnx_file(plain) == plain.files[PLAIN]
    with pytest.raises(BundleError, match=r"both model\.onnx and model\.packed"):
        onnx_file(replace(plain, files={PLAIN: b"", PACKED: b""}))
    with pytest.raises(BundleError, match=r"no model\.onnx and no model\.packed, only other\.bin"):
        onnx_file(replace(plain, files={"other.bin": b""}))


def test_what_comes_out_is_not_trusted_either(tmp_path, monkeypatch):
    """A packed file that hides a reference to a file on disk opens it as little as a plain one."""
    from .test_onnxruntime_engine import external, scaled

    (tmp_path / "inside.bin").write_bytes(bytes(12))
    monkeypatch.chdir(tmp_path)
    hidden = replace(classifier(SPEC), files={PACKED: wrapped(scaled(external("inside.bin")))})
    with pytest.raises(BundleError, match="tensors in another file"):
        engines.get("onnxruntime").load(hidden, 1)


def test_tables_longer_than_any_network_has_are_refused_at_once():
    for table in (bytes([*varint(65)]) + bytes(3 * 65), bytes([0, *varint(200_000)]) + bytes(600_000)):
        with pytest.raises(BundleError, match="a table of"):
            expand(HEADER.pack(MAGIC, len(table), len(deflate(table))) + deflate(table))
