"""The boundary F-score by hand and against distances between all pairs of pixels."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.tasks.boundary import TOLERANCE, BoundaryMeter, grown, outline


def score(decided: np.ndarray, true: np.ndarray, classes: int = 3) -> float:
    meter = BoundaryMeter(classes)
    meter.update(decided[None], true[None])
    return meter.result()["boundary_f"]


def halves(border: int) -> np.ndarray:
    found = np.zeros((40, 40), np.int64)
    found[:, border:] = 1
    return found


def test_a_border_within_the_tolerance_is_found_and_one_beyond_is_not() -> None:
    assert score(halves(20), halves(20)) == 100
    assert score(halves(21), halves(20)) == 100, "one pixel: the least tolerance"
    assert score(halves(26), halves(20)) == 0


def test_a_class_that_fills_the_image_has_no_outline() -> None:
    flat = np.zeros((8, 8), np.int64)
    assert score(flat, flat) == 100 and score(halves(20)[:8, 16:24], flat) == 0


def test_void_has_no_outline() -> None:
    true = halves(20)
    true[:, 18:22] = 255
    assert not outline(true, true != 255).any()
    assert score(halves(20), true) == 100
    assert BoundaryMeter(2).result() == {"boundary_f": 0}


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_growing_is_distance(seed: int, radius: int) -> None:
    mask = np.random.default_rng(seed).random((7, 9)) < 0.1
    places = np.argwhere(mask)
    expected = [[any(math.dist((y, x), place) <= radius for place in places) for x in range(9)] for y in range(7)]
    assert np.array_equal(grown(mask, radius), np.array(expected).reshape(7, 9))


@settings(max_examples=12)
@given(st.integers(0, 1000))
def test_against_all_pairs_of_outline_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    decided, true = (np.kron(rng.integers(0, 3, (3, 3)), np.ones((5, 5), np.int64)) for _ in range(2))
    radius = max(1, round(TOLERANCE * math.hypot(15, 15)))
    scores = []
    everywhere = np.ones((15, 15), bool)
    for k in np.unique(true):
        given, wanted = (np.argwhere(outline(x, everywhere) & (x == k)) for x in (decided, true))
        if not len(given) and not len(wanted):
            scores.append(1.0)
            continue
        near = [
            [any(math.dist(a, b) <= radius for b in others) for a in own]
            for own, others in ((given, wanted), (wanted, given))
        ]
        precision, recall = (sum(hits) / max(len(hits), 1) for hits in near)
        scores.append(2 * precision * recall / max(precision + recall, 1e-12))
    assert score(decided, true) == pytest.approx(100 * np.mean(scores), abs=1e-9)
