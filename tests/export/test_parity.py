"""What is still taken for the same network."""

import pytest

from edgepress.export.parity import FLOAT, INTEGER, bounds_for


def test_a_floating_point_file_has_the_tight_bounds() -> None:
    assert bounds_for("fp32") == FLOAT


@pytest.mark.parametrize("precision", ["w8a8", "w4a8", "w4a4"])
def test_one_step_of_4_bits_or_more_is_within_the_usual_bound(precision: str) -> None:
    assert bounds_for(precision) == INTEGER


def test_with_2_bits_one_step_may_differ_and_no_more_outputs_than_usual() -> None:
    found = bounds_for("w2a2")
    assert found.max_difference == pytest.approx(1 / 3)
    assert (found.rms_difference, found.agreement) == (INTEGER.rms_difference, INTEGER.agreement)
