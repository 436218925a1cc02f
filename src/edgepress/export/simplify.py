"""What an integer runtime would have to look through is written in the operations it has integer kernels for."""

import numpy as np
import onnx_ir as ir

from edgepress.export.nodes import (
    add_before,
    constant,
    initializer,
    nodes_of,
    only_reader,
    put_in_place,
    rank,
    scale_of,
    stored,
    zero_point_of,
)

MOVING = {"MaxPool", "Reshape", "Flatten", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Gather", "Resize", "Pad"}
"""Operations that compute nothing with numbers; `Resize` only in its nearest mode."""


def simplify(graph: ir.Graph) -> None:
    """Simplify a graph with QuantizeLinear and DequantizeLinear in place; what it computes stays the same."""
    for step in (_resize_by_scales, _pool, _hard_sigmoid, _drop_clamps, _move_codes, _clamp_behind_pools):
        step(graph)


def _resize_by_scales(graph: ir.Graph) -> None:
    """Give `Resize` its factors instead of a size computed from the shape of its input: that spares four operations.

    A factor that is no whole number is chosen so that it gives the wanted size, and in nearest mode the pixels that
    PyTorch takes; where no float32 does, the computed size stays. (The attribute `axes`, which would allow a stored
    size, breaks ONNX Runtime 1.31 where it turns a network of integers to channels-last.)
    """
    for node in nodes_of(graph, "Resize"):
        if len(node.inputs) < 4 or node.inputs[3] is None or node.inputs[0] is None:
            continue
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if before is None or after is None or not all(isinstance(d, int) for s in (before, after) for d in s[2:]):
            continue
        nearest = "mode" not in node.attributes or node.attributes["mode"].as_string() == "nearest"
        found = [resize_factor(int(b), int(a), nearest) for b, a in zip(before[2:], after[2:], strict=True)]  # type: ignore[arg-type]
        if None in found:
            continue
        factors = [1.0, 1.0, *found]
        scales = initializer(graph, f"factors_{factors}", np.array(factors, np.float32))
        resized = ir.node("Resize", [node.inputs[0], None, scales], dict(node.attributes))
        graph.insert_before(node, resized)
        put_in_place(graph, node, resized)


def resize_factor(before: int, after: int, nearest: bool) -> float | None:
    """Return a float32 with which a runtime makes `before` pixels `after`, None where there is none.

    A runtime computes `floor(before * factor)` for the size, in single or in double precision, and in `nearest` mode
    `floor(place / factor)` for the pixel it takes; PyTorch takes `floor(place * (before / after))`.
    """
    places = np.arange(after, dtype=np.float32)
    wanted = np.floor(places * (np.float32(before) / np.float32(after)))
    factor = np.float32(after) / np.float32(before)
    for candidate in (factor, *(np.nextafter(factor, np.float32(end)) for end in (np.inf, 0))):
        fits = np.floor(np.float32(before) * candidate) == after == np.floor(before * float(candidate))
        if fits and (not nearest or np.array_equal(np.floor(places / candidate), wanted)):
            return float(candidate)
    return None


def _pool(graph: ir.Graph) -> None:
    """Write the mean over height and width as `GlobalAveragePool`, which has an integer kernel."""
    for node in nodes_of(graph, "ReduceMean"):
        axes = constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
        keeps = "keepdims" not in node.attributes or node.attributes["keepdims"].as_int() == 1
        if axes is None or not keeps or rank(node.inputs[0]) != 4:
            continue
        if sorted(int(a) % 4 for a in axes.flat) == [2, 3]:
            put_in_place(graph, node, add_before(graph, node, "GlobalAveragePool", [node.inputs[0]]))


def _hard_sigmoid(graph: ir.Graph) -> None:
    """Write a quantized hard sigmoid, `clamp(x/6 + 1/2, 0, 1)`, as an integer addition: `clamp((x + 3)/6, 0, 1)`.

    The saturation of uint8 is the clamp, and reading the sum with 1/255 instead of 6/255 is the division by six. The
    three may be a hair less than that, see `_three`.
    """
    for node in nodes_of(graph, "HardSigmoid"):
        quantize = only_reader(node.outputs[0], "QuantizeLinear")
        alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 0.2
        beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 0.5
        if quantize is None or abs(alpha - 1 / 6) > 1e-5 or abs(beta - 0.5) > 1e-6 or zero_point_of(quantize) != 0:
            continue
        scale = float(stored(quantize.inputs[1]))
        three = initializer(graph, "three", np.array(255, np.uint8))
        step = scale_of(graph, np.array(_three(node.inputs[0], scale)))
        constant = add_before(graph, node, "DequantizeLinear", [three, step, quantize.inputs[2]])
        total = add_before(graph, node, "Add", [node.inputs[0], constant.outputs[0]])
        quantize.replace_input_with(0, total.outputs[0])
        quantize.replace_input_with(1, scale_of(graph, np.array(6 * scale)))
        graph.remove(node, safe=True)


def _three(x: ir.Value | None, scale: float) -> float:
    """Return the step, 3/255 or a hair less, by which the addition gives the codes of the gate for all codes of `x`.

    Where x is 0, which it often is, the gate is 1/2, or 127.49999 steps; a sum in float32 with the zero points inside,
    as ONNX Runtime adds (`export.integers.Added`), is half a step or more there and is rounded up.
    """
    steps = 3 / 255 * (1 - np.arange(0, 64) * 1e-7)
    source = x.producer() if x is not None else None
    if source is None or source.op_type != "DequantizeLinear" or stored(source.inputs[1]).ndim:
        return float(steps[0])
    own, zero, codes = float(stored(source.inputs[1])), float(zero_point_of(source)), np.arange(256)
    gates = np.clip(np.float32(own) * (codes - zero).astype(np.float32) + np.float32(3), 0, 6) / np.float32(6)
    wanted = np.rint(gates / np.float32(scale))
    ours = np.float32(own) / np.float32(6 * scale)
    theirs = (steps.astype(np.float32) / np.float32(6 * scale)).astype(np.float64)
    totals = (255 * theirs - np.float32(ours * np.float64(zero))).astype(np.float32).astype(np.float64)
    sums = (codes * np.float64(ours) + totals[:, None]).astype(np.float32)
    wrong = (np.clip(np.rint(sums), 0, 255) != wanted).sum(axis=1)
    return float(steps[int(np.argmin(wrong))])


def _drop_clamps(graph: ir.Graph) -> None:
    """Remove `Relu` and `Clip` from 0 before a rounding that cannot hold a value outside them anyway."""
    for node in [*nodes_of(graph, "Relu"), *nodes_of(graph, "Clip")]:
        readers = [use.node for use in node.outputs[0].uses()]
        if node.outputs[0].is_graph_output() or not readers or any(r.op_type != "QuantizeLinear" for r in readers):
            continue
        if all(_within(node, reader) for reader in readers):
            source = node.inputs[0]
            assert source is not None
            ir.convenience.replace_all_uses_with(node.outputs[0], source)
            graph.remove(node, safe=True)


def _within(clamp: ir.Node, quantize: ir.Node) -> bool:
    if zero_point_of(quantize) != 0:
        return False
    if clamp.op_type == "Relu":
        return True
    bounds = [constant(v) if v is not None else None for v in clamp.inputs[1:3]]
    low = None if not bounds or bounds[0] is None else float(bounds[0])
    high = float("inf") if len(bounds) < 2 or bounds[1] is None else float(bounds[1])
    return low == 0 and float(stored(quantize.inputs[1])) * 255 <= high * (1 + 1e-6)


def _move_codes(graph: ir.Graph) -> None:
    """Let moving operations work on codes: drop the pair around them where both sides share scale and zero point."""
    for quantize in nodes_of(graph, "QuantizeLinear"):
        moved = quantize.inputs[0]
        node = moved.producer() if moved is not None else None
        if node is None or moved is None or moved.is_graph_output():
            continue
        if node.op_type == "DequantizeLinear":
            dequantize, result = node, node.inputs[0]
        elif node.op_type in MOVING and len(moved.uses()) == 1 and _moves(node) and node.inputs[0] is not None:
            dequantize, result = node.inputs[0].producer(), moved
        else:
            continue
        if dequantize is None or dequantize.op_type != "DequantizeLinear" or result is None:
            continue
        if list(dequantize.inputs[1:]) != list(quantize.inputs[1:]):
            continue
        if node is not dequantize:
            node.replace_input_with(0, dequantize.inputs[0])
            if node.op_type == "Pad":
                node.resize_inputs(max(3, len(node.inputs)))
                node.replace_input_with(2, _padding_code(graph, node, quantize))
            moved.dtype = ir.DataType.UINT8
        ir.convenience.replace_all_uses_with(quantize.outputs[0], result)
        graph.remove(quantize, safe=True)
        if not dequantize.outputs[0].uses() and not dequantize.outputs[0].is_graph_output():
            graph.remove(dequantize, safe=True)


def _clamp_behind_pools(graph: ir.Graph) -> None:
    """Write `MaxPool` of a `Relu` that is rounded next as `Relu` of the `MaxPool`, which is the same.

    Without an operation between, ONNX Runtime moves the rounding before the pool: four times as many values, and codes
    pooled in PyTorch's layout take eight times as long as floats.
    """
    for pool in nodes_of(graph, "MaxPool"):
        relu = pool.inputs[0].producer() if pool.inputs[0] is not None else None
        if relu is None or relu.op_type != "Relu" or only_reader(relu.outputs[0], "MaxPool") is None:
            continue
        if only_reader(pool.outputs[0], "QuantizeLinear") is None:
            continue
        pool.replace_input_with(0, relu.inputs[0])
        graph.remove(relu, safe=True)
        behind = ir.node("Relu", [pool.outputs[0]])
        graph.insert_after(pool, behind)
        ir.convenience.replace_all_uses_with(pool.outputs[0], behind.outputs[0])
        behind.replace_input_with(0, pool.outputs[0])
        behind.outputs[0].shape, behind.outputs[0].type = pool.outputs[0].shape, pool.outputs[0].type


def _moves(node: ir.Node) -> bool:
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else None
    if node.op_type == "Pad":
        return mode in (None, "constant") and _padding(node) is not None
    return node.op_type != "Resize" or mode in (None, "nearest")


def _padding(node: ir.Node) -> float | None:
    """Return the number that a `Pad` puts around its input; None where the network computes it."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return 0.0
    found = constant(value)
    return None if found is None else float(found.reshape(()))


def _padding_code(graph: ir.Graph, node: ir.Node, quantize: ir.Node) -> ir.Value:
    """Return the code that `quantize` makes of what a `Pad` puts around its input."""
    value, zero_point = _padding(node), zero_point_of(quantize)
    assert value is not None
    code = np.clip(np.rint(np.float32(value) / stored(quantize.inputs[1])) + zero_point, 0, 255)
    return initializer(graph, f"zero_{int(code)}", np.array(code, np.uint8))
