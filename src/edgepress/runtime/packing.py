"""Integers of 2 to 8 bits, packed without gaps: the first code in the lowest bits of the first byte.

That is the layout of ONNX's INT4 and INT2 tensors (https://onnx.ai/onnx/technical/int4.html), continued to the widths
that do not divide a byte. Signed codes are two's complement. The bits after the last code are 0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import DataError

WIDTHS = range(2, 9)
Codes = NDArray[np.int8 | np.uint8]


def pack(codes: NDArray[Any], bits: int, signed: bool = True) -> bytes:
    """Return integer `codes` of any shape, read in C order, as `packed_bytes(codes.size, bits)` bytes.

    Raises `DataError` for a width outside 2 to 8, numbers that are no integers and codes that `bits` cannot hold.
    """
    low, high = limits(bits, signed)
    flat = np.ascontiguousarray(codes).ravel()
    if flat.dtype.kind not in "iu":
        raise DataError(f"only integers can be packed, got {flat.dtype}")
    if flat.size and (int(flat.min()) < low or int(flat.max()) > high):
        sign = "signed" if signed else "unsigned"
        raise DataError(
            f"codes from {flat.min()} to {flat.max()} do not fit {bits} {sign} bits, which hold {low} to {high}"
        )
    octets = flat.astype(np.uint8)  # modulo 256: two's complement
    if bits == 8:
        return octets.tobytes()
    per_group, group_bytes = _group(bits)
    padded = np.zeros(-(-octets.size // per_group) * per_group, np.uint8)
    padded[: octets.size] = octets & ((1 << bits) - 1)
    groups = padded.reshape(-1, per_group).astype(np.uint64)
    words = np.zeros(len(groups), np.uint64)
    for place in range(per_group):
        words |= groups[:, place] << np.uint64(place * bits)
    packed = words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :group_bytes]
    return packed.tobytes()[: packed_bytes(octets.size, bits)]


def unpack(data: bytes | memoryview, bits: int, count: int, signed: bool = True) -> Codes:
    """Return the `count` codes in `data` as int8 `(count,)`, or as uint8 where they are not `signed`.

    Raises `DataError` for a width outside 2 to 8, data of another length than `packed_bytes(count, bits)`, and padding
    that is not 0.
    """
    limits(bits, signed)
    if count < 0:
        raise DataError(f"a number of codes cannot be negative, got {count}")
    expected = packed_bytes(count, bits)
    if len(data) != expected:
        problem = "truncated" if len(data) < expected else "over-long"
        raise DataError(f"packed codes are {problem}: {count} of {bits} bits take {expected} bytes, got {len(data)}")
    spare = expected * 8 - count * bits
    if spare and data[-1] >> (8 - spare):
        raise DataError(f"packed codes end in wrong padding: the last {spare} bits must be 0")
    kind = np.dtype(np.int8 if signed else np.uint8)
    octets = np.frombuffer(data, np.uint8)
    if bits == 8:
        return octets.view(kind)
    if 8 % bits == 0:
        return np.take(_table(bits, bits, signed, 8 // bits), octets).view(kind)[:count]
    return _unpack_groups(octets, bits, signed).view(kind)[:count]


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` codes of `bits` take."""
    return (count * bits + 7) // 8


def limits(bits: int, signed: bool) -> tuple[int, int]:
    """Return the lowest and the highest code of a width; raise `DataError` where it is not 2 to 8."""
    if bits not in WIDTHS:
        raise DataError(f"codes have {WIDTHS[0]} to {WIDTHS[-1]} bits, got {bits}")
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


def _group(bits: int) -> tuple[int, int]:
    """Return the fewest codes that fill whole bytes, and how many bytes those are."""
    per_group = 8 if bits % 2 else {2: 4, 4: 2, 6: 4}[bits]
    return per_group, per_group * bits // 8


def _table(width: int, bits: int, signed: bool, codes: int) -> NDArray[Any]:
    """Return what each number of `codes` fields of `width` bits stands for: an integer that holds them as bytes."""
    numbers = np.arange(1 << (width * codes), dtype=np.uint32)
    fields = np.stack([numbers >> (width * place) & ((1 << bits) - 1) for place in range(codes)], axis=1)
    if signed:
        fields = np.where(fields >> (bits - 1) & 1, fields.astype(np.int64) - (1 << bits), fields)
    return fields.astype(np.int8 if signed else np.uint8).view(f"<u{codes}").ravel()


def _unpack_groups(octets: NDArray[np.uint8], bits: int, signed: bool) -> NDArray[Any]:
    """Look up several codes at a time: groups of whole bytes are read as words, and words as fields of at most 14 bits.

    A lookup gives two codes (four of 3 bits) at once, where shifting each code into place alone takes three passes.
    """
    per_group, group_bytes = _group(bits)
    groups = -(-octets.size // group_bytes)
    words = np.zeros((groups, 8), np.uint8)
    whole = octets.size // group_bytes
    words[:whole, :group_bytes] = octets[: whole * group_bytes].reshape(whole, group_bytes)
    words[whole:, : octets.size - whole * group_bytes] = octets[whole * group_bytes :]
    numbers = words.view("<u8").ravel()
    at_once = 4 if bits == 3 else 2
    table = _table(bits, bits, signed, at_once)
    result = np.empty((groups, per_group // at_once), table.dtype)
    mask = np.uint64(table.size - 1)
    for place in range(per_group // at_once):
        fields = (numbers >> np.uint64(place * at_once * bits)) & mask
        np.take(table, fields.astype(np.intp), out=result[:, place], mode="wrap")
    return result.ravel()
