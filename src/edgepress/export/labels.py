"""Names for the nodes of an ONNX file, so that an engine's profiler speaks of layers.

Bundles hold their nodes without names, to be small. Engines fuse nodes, and name what comes of it after one of them or
after its output: both get the label. Layers (what has weights to multiply with) are counted from 0 in the order of the
file, which is the order in which the network calls them.
"""

import re
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import numpy_helper

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_LAYER = re.compile(r"L(\d+)")


@dataclass(frozen=True)
class LayerFile:
    """A layer as the file holds it: its operation, the shape of its weights, and the bytes of weights and bias."""

    operation: str
    shape: tuple[int, ...]
    bytes: int


def labelled(data: bytes) -> bytes:
    """Return the ONNX file `data` with labels: `L3` for the fourth layer, `L3.n7` for what only works on its output."""
    model = onnx.load_from_string(data)
    graph = model.graph
    layers = {place: count for count, place in enumerate(_weights(graph))}
    kept = {value.name for value in graph.output}
    owners: dict[str, int] = {}
    renamed: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        before = [owners[name] for name in node.input if name in owners]
        layer = layers.get(number, max(before, default=None))
        # With a dot, which no name of `export.slim` has.
        node.name = f"n.{number}" if layer is None else f"L{layer}" + ("" if number in layers else f".n{number}")
        for place, name in enumerate(node.output):
            if layer is not None:
                owners[name] = layer
            if name and name not in kept:
                renamed[name] = node.name + (f":{place}" if place else "")
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    del graph.value_info[:]  # under the old names
    return model.SerializeToString()


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a label (or a name an engine made of it) stands for, None for none."""
    found = _LAYER.match(name)
    return int(found[1]) if found else None


def layers_of(data: bytes) -> list[LayerFile]:
    """Return the layers of the ONNX file `data`, in order."""
    graph = onnx.load_from_string(data).graph
    return [
        LayerFile(graph.node[place].op_type, tuple(parts[0].dims), sum(numpy_helper.to_array(p).nbytes for p in parts))
        for place, parts in _weights(graph).items()
    ]


def _weights(graph: Any) -> dict[int, list[Any]]:
    """Return by the place of each layer in the file what it multiplies with and adds: codes, scales, biases."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    made = {one.output[0]: one for one in graph.node if one.op_type in ("DequantizeLinear", "Cast")}
    found: dict[int, list[Any]] = {}
    for place, node in enumerate(graph.node):
        if node.op_type not in WEIGHTED:
            continue
        parts: list[Any] = []
        for name in node.input[1:]:
            source = made.get(name)
            behind = [name] if source is None or source.input[0] not in held else source.input
            parts += [held[part] for part in behind if part in held]
        if parts:
            found[place] = parts
    return found
