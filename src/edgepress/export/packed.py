"""Packed files: an ONNX file whose weights have few bits, as small as the light runtime can still read quickly.

Every int8 tensor goes into the pool of the narrowest width that holds all its codes, every float32 tensor into one pool
of floats. Nothing is decided here but how bytes are stored: `expand(compress(file)) == file`, always.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import EdgepressError
from edgepress.runtime.onnx_wire import fields
from edgepress.runtime.packed import DEFLATED, FLOATS, HEADER, MAGIC, ODD, SIGNED, Hole, Pool, expand
from edgepress.runtime.packing import WIDTHS, limits, pack

FEWEST = 12
"""Bytes of a tensor that is worth an entry of its own in the table of holes."""

_FLOAT32, _UINT8, _INT8 = 1, 2, 3  # TensorProto.DataType


@dataclass(frozen=True)
class _Tensor:
    """The raw data of an initializer, and where it begins in the file."""

    kind: int
    data: memoryview
    begin: int


@dataclass
class _Gathered:
    """Numbers of one kind: those of `bits` wide integers, all of them odd or not, or float32 where `bits` is 0."""

    bits: int
    signed: bool
    odd: bool
    parts: list[memoryview] = field(default_factory=list)

    def items(self) -> int:
        return sum(len(part) for part in self.parts) // (1 if self.bits else 4)


def compress(data: bytes) -> bytes:
    """Return the packed file that `runtime.packed.expand` turns into the ONNX file `data` again, byte for byte."""
    pools: dict[tuple[int, bool, bool], _Gathered] = {}
    holes: list[Hole] = []
    text: list[memoryview] = []
    view, position = memoryview(data), 0
    for tensor in _initializers(view):
        kind = _kind(tensor)
        pool = pools.setdefault(kind, _Gathered(*kind))
        pool.parts.append(tensor.data)
        items = len(tensor.data) // (1 if pool.bits else 4)
        holes.append(Hole(tensor.begin - position, list(pools).index(kind), items))
        text.append(view[position : tensor.begin])
        position = tensor.begin + len(tensor.data)
    text.append(view[position:])
    stored = [_stored(pool) for pool in pools.values()]
    table = _entries([(pool.kind, pool.items, pool.stored) for pool, _ in stored])
    table += _entries([(hole.gap, hole.pool, hole.items) for hole in holes])
    outline = table + b"".join(text)
    deflated = deflate(outline)
    packed = HEADER.pack(MAGIC, len(outline), len(deflated)) + deflated + b"".join(body for _, body in stored)
    if expand(packed) != data:
        raise EdgepressError("the packed file does not become the ONNX file again; nothing was written")
    return packed


def deflate(data: bytes) -> bytes:
    """Return the shortest of several deflated forms: with and without matches, in blocks of several sizes."""
    best = b""
    for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY):
        for memory in range(3, 10) if len(data) < 1 << 20 else (9,):
            stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, memory, strategy)
            result = stream.compress(data) + stream.flush()
            best = result if not best or len(result) < len(best) else best
    return best


def _initializers(data: memoryview) -> Iterator[_Tensor]:
    """Yield the tensors of the main graph that have raw data worth packing."""
    for number, graph, graph_end in fields(data):
        if number != 7 or not isinstance(graph, memoryview):
            continue
        for part, tensor, end in fields(graph):
            if part != 5 or not isinstance(tensor, memoryview):
                continue
            found = {number: (value, end) for number, value, end in fields(tensor)}
            kind, (raw, raw_end) = found.get(2, (0, 0))[0], found.get(9, (0, 0))
            if isinstance(raw, memoryview) and isinstance(kind, int) and kind in (_FLOAT32, _UINT8, _INT8):
                begin = graph_end - len(graph) + end - len(tensor) + raw_end - len(raw)
                if len(raw) >= FEWEST:
                    yield _Tensor(kind, raw, begin)


def _kind(tensor: _Tensor) -> tuple[int, bool, bool]:
    """Return the narrowest width that holds all codes of `tensor`, 0 for float32, whether they are signed, and odd."""
    if tensor.kind == _FLOAT32:
        return 0, False, False
    signed = tensor.kind == _INT8
    codes = np.frombuffer(tensor.data, np.int8 if signed else np.uint8)
    bits = _bits(codes, signed)
    if 2 < bits <= 5 and bool((codes & 1).all()):
        return _bits(codes >> 1, signed), signed, True
    return bits, signed, False


def _bits(codes: NDArray[Any], signed: bool) -> int:
    low, high = int(codes.min()), int(codes.max())
    return next(b for b in WIDTHS if limits(b, signed)[0] <= low and high <= limits(b, signed)[1])


def _stored(pool: _Gathered) -> tuple[Pool, bytes]:
    """Return how `pool` is stored and its bytes."""
    raw, items = b"".join(pool.parts), pool.items()
    if pool.bits == 0:
        body = deflate(np.frombuffer(raw, np.uint8).reshape(items, 4).T.tobytes())
        return Pool(FLOATS, items, len(body)), body
    codes = np.frombuffer(raw, np.int8 if pool.signed else np.uint8)
    codes = codes >> 1 if pool.odd else codes
    sign = (SIGNED if pool.signed else 0) | (ODD if pool.odd else 0)
    dense = pack(codes, pool.bits, pool.signed)
    # Huffman codes count bytes: in whole codes to a byte they see which codes are frequent.
    whole = 2 if pool.bits == 2 else 4 if pool.bits <= 4 else 8
    deflated = deflate(pack(codes, whole, pool.signed))
    if len(deflated) < len(dense):
        return Pool(whole | sign | DEFLATED, items, len(deflated)), deflated
    return Pool(pool.bits | sign, items, len(dense)), dense


def _entries(rows: list[tuple[int, int, int]]) -> bytes:
    return b"".join(map(_varint, [len(rows), *(number for row in rows for number in row)]))


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 0x80:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])
