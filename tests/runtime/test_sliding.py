"""Windows cover the image and agree with the whole where a network looks at one pixel; nonsense is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.errors import ConfigError, DataError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.overlay import overlay, palette
from edgepress.runtime.pipeline import Pipeline
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import to_input
from edgepress.runtime.sliding import Sliding, starts
from edgepress.tasks.segmentation import Segments

from .tiny import classifier, segmenter


@given(st.integers(1, 300), st.integers(1, 64), st.floats(0, 0.9))
def test_windows_cover_every_pixel_and_overlap_as_asked(extra: int, window: int, overlap: float) -> None:
    side = window + extra - 1
    begins = starts(side, window, overlap)
    assert begins[0] == 0 and begins[-1] == side - window
    steps = np.diff(begins)
    assert (steps <= max(1, int(window * (1 - overlap))) + 1).all() and (steps > 0).all() and (steps <= window).all()


def test_a_network_of_single_pixels_says_the_same_in_windows() -> None:
    predictor = EnginePredictor(segmenter(InputSpec(8, 12)))
    images = np.random.default_rng(0).integers(0, 256, (2, 21, 30, 3), dtype=np.uint8)
    expected = to_input(images, InputSpec(21, 30))
    np.testing.assert_allclose(Sliding(predictor, 0.4)(images), expected, rtol=1e-5, atol=1e-6)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="for segmentation"):
        Sliding(EnginePredictor(classifier(InputSpec(8, 8))))
    predictor = EnginePredictor(segmenter(InputSpec(8, 12)))
    with pytest.raises(ConfigError, match="overlap is a share"):
        Sliding(predictor, 1.0)
    with pytest.raises(DataError, match="12x7 pixels is smaller than a window of 12x8"):
        Sliding(predictor)(np.zeros((1, 7, 12, 3), np.uint8))


@pytest.mark.parametrize("size", [(40, 50), (8, 12), (5, 30), (31, 6)])
def test_a_pipeline_of_windows_answers_at_the_size_of_the_image(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = 200
    image[:, size[1] // 2 :] = (0, 0, 200)
    answer = Pipeline(segmenter(InputSpec(8, 12)), threads=1, windows=True)(image)
    assert answer.classes.shape == size
    assert (answer.classes[:, : size[1] // 2 - 1] == 0).all() and (answer.classes[:, size[1] // 2 + 1 :] == 2).all()


def test_colors_are_distinct_and_those_of_streets_are_known() -> None:
    many = palette(tuple(f"class {k}" for k in range(20)))
    assert many.shape == (20, 3) and len({tuple(color) for color in many.tolist()}) == 20
    assert palette(("Road", "zebra"))[0].tolist() == [128, 64, 128]


def test_an_overlay_colors_what_has_a_class() -> None:
    image = np.full((2, 3, 3), 100, np.uint8)
    classes = np.array([[0, 1, 255], [255, 0, 1]], np.uint8)
    found = overlay(image, Segments(classes, ("road", "sky")), opacity=0.5)
    assert found[0, 0].tolist() == [114, 82, 114] and (found[classes == 255] == 100).all()
    assert (image == 100).all()
