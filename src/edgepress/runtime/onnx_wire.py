"""The protobuf under an ONNX file, and the question asked before a library may open it: does it want other files?

The base install has no onnx package, so this walks the protobuf wire format
(https://protobuf.dev/programming-guides/encoding) along the paths on which a tensor can lie
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), and decodes nothing else.
"""

from collections.abc import Iterator

from edgepress.core.errors import BundleError

# Message -> {field number: message type found there}.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA = 13  # TensorProto.external_data
_DATA_LOCATION = 14  # TensorProto.data_location: 0 in this file, 1 in another
_MAX_DEPTH = 64


def refuse_external_data(data: bytes, where: str) -> None:
    """Raise `BundleError` where the ONNX model `data` keeps a tensor in another file, or is no protobuf message."""
    try:
        external = _any_external(memoryview(data), "model", 0)
    except (IndexError, ValueError) as error:
        raise BundleError(f"{where}: not a readable ONNX file ({error}); copy or export it again") from None
    if external:
        raise BundleError(f"{where}: keeps tensors in another file, which a bundle must not; export it as one file")


def _any_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if kind == "tensor":
        values = [(number, value) for number, value, _ in fields(message)]
        return any(number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0) for number, value in values)
    below = _PATHS[kind]
    return any(
        _any_external(value, below[number], depth + 1)
        for number, value, _ in fields(message)
        if number in below and isinstance(value, memoryview)
    )


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview, int]]:
    """Yield the number, the value and the end of every field; a value is an int, or the bytes of any other field.

    Raises `IndexError` or `ValueError` where `message` is no protobuf message.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = varint(message, position)
        wire = tag & 7
        if wire == 0:
            value, position = varint(message, position)
            yield tag >> 3, value, position
            continue
        if wire == 2:
            length, position = varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        if position + length > end:
            raise ValueError("truncated")
        position += length
        yield tag >> 3, message[position - length : position], position


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number that begins at `position`, and where it ends; raise `IndexError` or `ValueError` otherwise."""
    value = message[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")
