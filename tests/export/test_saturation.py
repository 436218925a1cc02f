"""Sums that saturate: against what ONNX Runtime gives on an emulated Haswell, by hand, and on a real network."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgepress.export.onnx import FILE, export_onnx
from edgepress.export.saturation import HIGHEST, LOWEST, conv_rows, exact_on, pairs_at_risk, weight_rows
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.runtime.hardware import Hardware, may_saturate
from quantize.nets import images, make

HASWELL = Hardware("x86", frozenset({"avx2", "fma"}))
RECORDED = Path(__file__).parent / "data" / "haswell.npz"
"""Inputs `x`, int8 weights `w` and outputs `y` of single QLinearConv and QLinearMatMul nodes (all scales 1, output
scale 2048 and zero point 128, padding that keeps the size), by ONNX Runtime 1.31.1 under `qemu-x86_64 -cpu Haswell`."""


def in_pairs(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return `(..., K / 2, 2)`, a zero added where K is odd."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)])
    return padded.reshape(*values.shape[:-1], -1, 2)


def saturating_product(activations: NDArray[np.uint8], rows: NDArray[np.int8]) -> NDArray[np.int32]:
    """Return the sums `(N, outputs)` of activation codes `(N, K)` with weight rows `(outputs, K)` as such a processor
    computes them."""
    left, right = in_pairs(activations.astype(np.int32)), in_pairs(rows.astype(np.int32))
    total = np.zeros((len(activations), len(rows)), np.int32)
    for j in range(left.shape[1]):  # one pair at a time: all at once would need N x outputs x K numbers
        pair = left[:, None, j, 0] * right[None, :, j, 0] + left[:, None, j, 1] * right[None, :, j, 1]
        total += np.clip(pair, LOWEST, HIGHEST)
    return total


def exact_product(activations: NDArray[np.uint8], rows: NDArray[np.int8]) -> NDArray[np.int32]:
    """Return the same sums without saturation."""
    return activations.astype(np.int32) @ rows.astype(np.int32).T


def patches(
    codes: NDArray[np.uint8], kernel: tuple[int, int], stride: int = 1, padding: int = 0, zero_point: int = 0
) -> NDArray[np.uint8]:
    """Return what a convolution multiplies: from codes `(N, C, H, W)` the rows `(N * out_h * out_w, K)`, channels
    fastest; the border is filled with the code of zero."""
    border = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    padded = np.pad(codes, border, constant_values=zero_point)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (2, 3))[:, :, ::stride, ::stride]
    return windows.transpose(0, 2, 3, 4, 5, 1).reshape(-1, kernel[0] * kernel[1] * codes.shape[1])


@cache
def recorded() -> dict[str, NDArray[Any]]:
    return dict(np.load(RECORDED))


def layer(name: str, product) -> NDArray[np.uint8]:
    """Return the recorded layer's outputs, its sums taken by `product`."""
    x, w = recorded()[f"{name}_x"], recorded()[f"{name}_w"]
    if x.ndim == 2:
        sums = product(x, w)
    else:
        group, kernel = x.shape[1] // w.shape[1], w.shape[2]
        parts = zip(np.split(x, group, 1), np.split(w, group), strict=True)
        each = [product(patches(a, (kernel, kernel), padding=kernel // 2), conv_rows(b)) for a, b in parts]
        sums = np.concatenate(each, 1).reshape(len(x), *x.shape[2:], len(w)).transpose(0, 3, 1, 2)
    return np.clip(np.rint(sums / np.float32(2048)) + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["stem", "even", "odd", "pointwise", "grouped", "matmul"])
def test_emulation_gives_what_the_processor_gives(name: str) -> None:
    expected = recorded()[f"{name}_y"]
    np.testing.assert_array_equal(layer(name, saturating_product), expected)
    assert (layer(name, exact_product) != expected).any()


def test_depthwise_sums_are_exact_there() -> None:
    expected = recorded()["depthwise_y"]
    np.testing.assert_array_equal(layer("depthwise", exact_product), expected)
    assert (layer("depthwise", saturating_product) != expected).any()


def test_one_pair_by_hand() -> None:
    rows = np.array([[127, 127, -127, -127, 127]], np.int8)
    full = np.full((1, 5), 255, np.uint8)
    assert exact_product(full, rows)[0, 0] == 255 * 127
    assert saturating_product(full, rows)[0, 0] == 32767 - 32768 + 255 * 127
    assert pairs_at_risk(rows) == 2


SAFE = [(64, 64), (127, 1), (127, -127), (-64, -64), (-128, 0)]
AT_RISK = [(127, 2), (65, 64), (-128, -1), (-65, -64)]


@pytest.mark.parametrize(("pair", "risk"), [*((pair, 0) for pair in SAFE), *((pair, 1) for pair in AT_RISK)])
def test_the_bound_is_128_for_two_of_one_sign(pair: tuple[int, int], risk: int) -> None:
    assert pairs_at_risk(np.array([pair], np.int8)) == risk


codes = st.integers(-128, 127)


@settings(max_examples=60, deadline=None)
@given(st.lists(codes, min_size=1, max_size=9), st.integers(0, 2**32 - 1))
def test_without_risk_no_activation_saturates_and_with_risk_one_does(weights: list[int], seed: int) -> None:
    rows = np.array([weights], np.int8)
    # Under each sign alone the largest sums come from the largest activations.
    worst = np.stack([np.where(rows[0] > 0, 255, 0), np.where(rows[0] < 0, 255, 0)]).astype(np.uint8)
    random = np.random.default_rng(seed).integers(0, 256, (8, len(weights))).astype(np.uint8)
    assert (saturating_product(worst, rows) != exact_product(worst, rows)).any() == bool(pairs_at_risk(rows))
    if not pairs_at_risk(rows):
        np.testing.assert_array_equal(saturating_product(random, rows), exact_product(random, rows))


def test_a_network_with_weights_at_the_extremes_is_seen_and_7_bits_cure_it() -> None:
    model = make("Residual")
    with torch.no_grad():
        for parameter in model.module.parameters():
            if parameter.dim() == 4:  # every weight at one end of its channel's range
                parameter.copy_(parameter.abs().amax((1, 2, 3), keepdim=True) * parameter.sign())
    program = export_onnx(quantize(model, images(24)), images(24))
    assert program.provenance["exact_on"] == ["vnni", "dotprod", "neon"] and may_saturate(program, HASWELL)
    rows = weight_rows(ir.from_proto(onnx.load_from_string(program.files[FILE])).graph)[1]
    assert np.abs(rows).min() == 127 and pairs_at_risk(rows) > rows.size // 5
    inputs = np.random.default_rng(0).integers(0, 256, (50, rows.shape[1])).astype(np.uint8)
    exact = exact_product(inputs, rows)
    assert np.abs(saturating_product(inputs, rows) - exact).max() > 0.1 * np.abs(exact).max()

    seven = export_onnx(quantize(model, images(24), QuantizeConfig(weights=7, first_last=7)), images(24))
    assert seven.provenance["exact_on"] == ["any"] and not may_saturate(seven, HASWELL)


def test_a_file_is_judged_by_its_weights() -> None:
    program = export_onnx(quantize(make("SqueezeExcite"), images(24)), images(24))
    file = onnx.load_from_string(program.files[FILE])
    for tensor in file.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1:
            small = np.clip(onnx.numpy_helper.to_array(tensor), -63, 63)
            tensor.CopyFrom(onnx.numpy_helper.from_array(small, tensor.name))
    assert exact_on(program.files[FILE]) != ["any"]
    assert exact_on(file.SerializeToString()) == ["any"]


def test_floating_point_files_say_nothing() -> None:
    program = export_onnx(make("Residual"), images(24))
    assert "exact_on" not in program.provenance and not may_saturate(program, HASWELL)
