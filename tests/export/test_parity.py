"""What is still taken for the same network."""

import numpy as np
import pytest

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import ParityError
from edgepress.export.onnx import FILE, to_onnx
from edgepress.export.parity import FLOAT, INTEGER, LOOSEST, Bounds, _beside_rounding, bounds_for, check
from edgepress.models.predictor import TorchPredictor
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from quantize.nets import images, make, quantized


def test_a_floating_point_file_has_the_tight_bounds() -> None:
    assert bounds_for("fp32") == FLOAT


@pytest.mark.parametrize("precision", ["w8a8", "w4a8", "w4a4"])
def test_one_step_of_4_bits_or_more_is_within_the_usual_bound(precision: str) -> None:
    assert bounds_for(precision) == INTEGER


def test_with_2_bits_one_step_may_differ_and_no_more_outputs_than_usual() -> None:
    found = bounds_for("w2a2")
    assert found.max_difference == pytest.approx(1 / 3)
    assert (found.rms_difference, found.agreement) == (INTEGER.rms_difference, INTEGER.agreement)


def wider(model: Model) -> Bounds:
    return _beside_rounding(bounds_for(model.precision), model, images(16), TorchPredictor(model)(images(16)))


def test_bounds_follow_where_rounding_moves_a_network_much() -> None:
    fine = quantized("SqueezeExcite")
    coarse = quantize(make("SqueezeExcite"), images(24), QuantizeConfig(weights=3, activations=3))
    expected = TorchPredictor(fine)(images(16))
    assert wider(fine) == INTEGER, "rounding moves it by 0.011 rms"
    assert INTEGER.rms_difference < wider(coarse).rms_difference <= LOOSEST.rms_difference
    assert wider(coarse).agreement == INTEGER.agreement
    assert np.array_equal(TorchPredictor(fine)(images(16)), expected), "its rounding is on again"


def test_another_network_passes_the_widest_bounds_no_more_than_the_others() -> None:
    coarse, other = (
        quantize(make(name), images(24), QuantizeConfig(activations=4)) for name in ("Residual", "SqueezeExcite")
    )
    wrong = Program(coarse.signature, "onnxruntime", coarse.precision, {FILE: to_onnx(other)})
    with pytest.raises(ParityError, match="does not compute"):
        check(coarse, wrong, images(16))
