"""Segmentation networks in integers: what stays in floating point is recorded, and the file agrees with the network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.core.artifact import Model, Signature
from edgepress.core.inputs import InputSpec
from edgepress.export.onnx import export_onnx
from edgepress.models.build import new_model
from edgepress.models.predictor import TorchPredictor
from edgepress.models.structure import load_model, save_model
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.runtime.predictor import EnginePredictor

SIZE = (22, 30)  # no multiple of the networks' strides


def network(**arguments: Any) -> tuple[Model, np.ndarray]:
    signature = Signature("segmentation", InputSpec(*SIZE), ("a", "b", "c", "d"))
    rng = np.random.default_rng(0)
    images = np.clip(rng.normal(0, 40, (16, *SIZE, 3)).cumsum(1) / 3 + 128, 0, 255).astype(np.uint8)
    return new_model("unet", signature, {"width": 6, "depth": 2, **arguments}, seed=0), images


@pytest.mark.parametrize(
    ("arguments", "in_float"),
    [
        ({"up": "nearest"}, []),
        ({"up": "bilinear"}, ["upsample_bilinear2d"]),
        ({"up": "transposed", "stride": 2}, ["conv_transpose2d", "upsample_bilinear2d"]),
    ],
    ids=["nearest", "bilinear", "transposed"],
)
def test_what_stays_in_floating_point_is_recorded(
    arguments: dict[str, Any], in_float: list[str], tmp_path: Path
) -> None:
    model, images = network(**arguments)
    integer = quantize(model, images)
    recorded = " ".join(integer.edits[-1]["in_float"])
    assert all(name in recorded for name in in_float) and bool(recorded) == bool(in_float)
    save_model(integer, tmp_path)
    expected = TorchPredictor(integer)(images)
    np.testing.assert_array_equal(TorchPredictor(load_model(tmp_path))(images), expected)
    program = export_onnx(integer, images)
    assert program.parity["agreement"] >= 99
    assert EnginePredictor(program)(images).shape == (16, 4, *SIZE)


def test_weights_of_four_bits_agree_with_floats_on_most_pixels() -> None:
    model, images = network()
    integer = quantize(model, images, QuantizeConfig(weights=4))
    agreed = (TorchPredictor(integer)(images).argmax(1) == TorchPredictor(model)(images).argmax(1)).mean()
    assert integer.precision == "w4a8" and agreed > 0.8
    assert export_onnx(integer, images).parity["agreement"] >= 99
