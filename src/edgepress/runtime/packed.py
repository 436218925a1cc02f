"""A packed file: an ONNX file with its numbers taken out and stored tightly; `expand` puts them back, byte for byte.

The result is the plain ONNX file with int8 weights, so that the engine runs its usual integer kernels, no tensor is
ever looked up outside the file, and `edgepress unpack` is the same function. Little endian throughout:

    4 bytes  MAGIC, its last byte the version
    u32, u32 bytes of the outline, inflated and as it is stored
    ...      the outline, deflated (RFC 1951): the table of pools, the table of holes, the ONNX file without the holes
    ...      the pools, one after the other, to the end of the file

    table    number of entries, then the entries; all numbers are protobuf varints
    pool     kind, items, bytes as stored
    hole     bytes of the ONNX file since the last hole, pool, items; a pool is used up in the order of the holes

A pool holds numbers of one kind from everywhere in the file: together they compress better than apart. Codes are packed
without gaps (`runtime.packing`) and then, where that makes them smaller, deflated; of codes that are all odd, such as
-3, -1, 1 and 3, half of each, rounded down, is packed, which takes a bit less. Float32 numbers are deflated as four
planes: all first bytes, all second bytes, and so on.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from edgepress.core.artifact import Program
from edgepress.core.errors import BundleError, DataError
from edgepress.runtime.onnx_wire import varint
from edgepress.runtime.packing import WIDTHS, packed_bytes, unpack

PLAIN, PACKED = "model.onnx", "model.packed"
"""The name of a plain and of a packed file in a bundle; a bundle has one of the two."""

MAGIC = b"epk\x01"
HEADER = struct.Struct("<4sII")
SIGNED, DEFLATED, ODD = 16, 32, 64
FLOATS = DEFLATED  # a width of 0

MAX_BYTES = 2 << 30  # protobuf, and so ONNX, ends there
MOST_PER_BYTE = 64
"""No more bytes may come out of a byte, plus a megabyte: real networks give up to 8."""

MOST_POOLS, MOST_HOLES = 64, 100_000
"""A pool is for one kind of numbers, a hole for a tensor."""


@dataclass(frozen=True)
class Pool:
    """Numbers of one kind: how they are stored, how many, and the bytes that takes."""

    kind: int
    items: int
    stored: int

    @property
    def bits(self) -> int:
        """Width of the codes; 0 where these are float32 numbers."""
        return self.kind & 15

    @property
    def item_bytes(self) -> int:
        """Bytes of one number in the ONNX file."""
        return 1 if self.bits else 4


@dataclass(frozen=True)
class Hole:
    """A place in the ONNX file: `gap` bytes after the last one, to be filled with `items` numbers of a pool."""

    gap: int
    pool: int
    items: int


def onnx_file(program: Program) -> bytes:
    """Return the plain ONNX file of `program`, whichever way it is stored.

    Raises `BundleError` where there is none, both are there, or the packed one is damaged.
    """
    found = [name for name in (PLAIN, PACKED) if name in program.files]
    if len(found) != 1:
        listed = ", ".join(sorted(program.files))
        problem = f"both {PLAIN} and {PACKED}" if found else f"no {PLAIN} and no {PACKED}, only {listed}"
        raise BundleError(f"the bundle holds {problem}; export it again")
    data = program.files[found[0]]
    return expand(data) if found[0] == PACKED else data


def expand(data: bytes, where: str = PACKED) -> bytes:
    """Return the ONNX file that the packed file `data` stands for. `where` names it in errors.

    Raises `BundleError`, and nothing else, where the file is damaged, truncated or over-long, of another version, or
    would grow beyond all measure.
    """
    try:
        return _expand(memoryview(data))
    except (DataError, ValueError, IndexError, zlib.error) as error:
        raise BundleError(f"{where}: not a readable packed file ({error}); copy or export it again") from None


def limit(packed: int) -> int:
    """Return the bytes that a packed file of `packed` bytes may become."""
    return min(MAX_BYTES, MOST_PER_BYTE * packed + (1 << 20))


def _expand(data: memoryview) -> bytes:
    if len(data) < HEADER.size:
        _refuse(f"{len(data)} bytes")
    magic, size, stored = HEADER.unpack_from(data)
    if magic[:3] != MAGIC[:3]:
        _refuse("it does not begin like one")
    if magic != MAGIC:
        _refuse(f"version {magic[3]}, this edgepress reads {MAGIC[3]}")
    most = limit(len(data))
    if size > most:
        _refuse(f"its outline states {size} bytes, at most {most} are allowed")
    end = HEADER.size + stored
    outline = memoryview(_inflate(data[HEADER.size : end], size))
    pools, holes, text = _tables(outline)
    _check_sizes(pools, holes, len(text), len(data) - end, most)
    filled: list[memoryview] = []
    for pool in pools:
        filled.append(_numbers(pool, data[end : end + pool.stored]))
        end += pool.stored
    return _fill(pools, holes, text, filled)


def _tables(outline: memoryview) -> tuple[list[Pool], list[Hole], memoryview]:
    """Return the two tables at the beginning of the outline, and the rest of it."""
    position = 0

    def entries(most: int) -> list[tuple[int, int, int]]:
        nonlocal position
        count, position = varint(outline, position)
        if count > min(most, len(outline)):
            _refuse(f"a table of {count} entries")
        found: list[tuple[int, int, int]] = []
        for _ in range(count):
            first, position = varint(outline, position)
            second, position = varint(outline, position)
            third, position = varint(outline, position)
            found.append((first, second, third))
        return found

    pools = [Pool(*entry) for entry in entries(MOST_POOLS)]
    holes = [Hole(*entry) for entry in entries(MOST_HOLES)]
    return pools, holes, outline[position:]


def _check_sizes(pools: list[Pool], holes: list[Hole], text: int, stored: int, most: int) -> None:
    for number, pool in enumerate(pools):
        plain = pool.kind & ~(15 | SIGNED | DEFLATED | ODD) == 0 and pool.bits in WIDTHS
        if not (plain or pool.kind == FLOATS) or (pool.kind & ODD and pool.bits > 4):
            _refuse(f"pool {number} is of the unknown kind {pool.kind}")
    if any(hole.pool >= len(pools) for hole in holes):
        _refuse("a hole without a pool")
    wanted = [0] * len(pools)
    for hole in holes:
        wanted[hole.pool] += hole.items
    for number, pool in enumerate(pools):
        if wanted[number] != pool.items:
            _refuse(f"pool {number} has {pool.items} numbers for {wanted[number]} places")
    if sum(pool.stored for pool in pools) != stored:
        problem = "truncated" if sum(pool.stored for pool in pools) > stored else "over-long"
        _refuse(f"{problem}: the pools take {sum(pool.stored for pool in pools)} bytes, {stored} are there")
    if sum(hole.gap for hole in holes) > text:
        _refuse("holes beyond the end")
    total = text + sum(pool.items * pool.item_bytes for pool in pools)
    if total > most:
        _refuse(f"it would become {total} bytes, at most {most} are allowed")


def _numbers(pool: Pool, data: memoryview) -> memoryview:
    """Return the numbers of `pool` as they lie in an ONNX file."""
    if pool.kind == FLOATS:
        planes = np.frombuffer(_inflate(data, 4 * pool.items), np.uint8).reshape(4, pool.items)
        return memoryview(planes.T.tobytes())
    if pool.kind & DEFLATED:
        data = memoryview(_inflate(data, packed_bytes(pool.items, pool.bits)))
    codes = unpack(data, pool.bits, pool.items, bool(pool.kind & SIGNED))
    if pool.kind & ODD:
        codes = codes * 2 + 1
    return np.ascontiguousarray(codes).view(np.uint8).data


def _fill(pools: list[Pool], holes: list[Hole], text: memoryview, filled: list[memoryview]) -> bytes:
    parts: list[memoryview] = []
    position, used = 0, [0] * len(pools)
    for hole in holes:
        parts.append(text[position : position + hole.gap])
        position += hole.gap
        begin = used[hole.pool]
        used[hole.pool] = begin + hole.items * pools[hole.pool].item_bytes
        parts.append(filled[hole.pool][begin : used[hole.pool]])
    return b"".join([*parts, text[position:]])


def _inflate(data: memoryview, size: int) -> bytes:
    """Return the `size` bytes that `data`, all of it, is the deflated form of."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    result = stream.decompress(data, size + 1)  # never more: a few bytes can stand for gigabytes
    if len(result) != size or not stream.eof or stream.unused_data:
        _refuse(f"{len(data)} deflated bytes are not {size} bytes")
    return result


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
