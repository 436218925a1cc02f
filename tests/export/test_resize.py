"""The factors of resizing: the size and the pixels that PyTorch takes, or none."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgepress.export.simplify import resize_factor


@given(st.integers(1, 600), st.booleans())
def test_a_doubling_always_has_a_factor(side: int, odd: bool) -> None:
    after = 2 * side + odd
    factor = resize_factor(side, after, nearest=True)
    assert factor is not None
    places = np.arange(after, dtype=np.float32)
    assert np.floor(np.float32(side) * np.float32(factor)) == after == np.floor(side * factor)
    assert np.array_equal(np.floor(places / np.float32(factor)), places * side // after)


@given(st.integers(1, 600), st.integers(1, 600))
def test_bilinear_needs_the_size_only(before: int, after: int) -> None:
    factor = resize_factor(before, after, nearest=False)
    assert factor is not None and np.floor(np.float32(before) * np.float32(factor)) == after


def test_where_no_float_fits_there_is_none() -> None:
    assert resize_factor(14, 16, nearest=True) is None
