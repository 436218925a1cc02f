import numpy as np
import pytest

from edgepress.core.errors import BundleError, DataError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import to_input

from .tiny import LABELS, classifier, flat, segmenter

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)


@pytest.mark.parametrize("make", [classifier, segmenter])
def test_uint8_batches_whatever_the_chunks(spec, make):
    program = make(spec)
    whole = EnginePredictor(program)(IMAGES)
    assert whole.dtype == np.float32 and whole.shape[:2] == (7, 3)
    np.testing.assert_array_equal(EnginePredictor(program, batch=3)(IMAGES), whole)
    np.testing.assert_array_equal(EnginePredictor(program).run(to_input(IMAGES, spec)), whole)


def test_a_fixed_batch_is_filled_up(spec):
    expected = EnginePredictor(classifier(spec))(IMAGES)
    np.testing.assert_array_equal(EnginePredictor(classifier(spec, batch=4))(IMAGES), expected)


def test_an_empty_batch(spec):
    assert EnginePredictor(classifier(spec))(IMAGES[:0]).shape == (0, 3)


def test_gray(tmp_path):
    spec = InputSpec(8, 8, 1, (0.5,), (0.5,), "L")
    outputs = EnginePredictor(classifier(spec, labels=("light",)))(IMAGES[..., :1])
    assert outputs.shape == (7, 1)


@pytest.mark.parametrize("images", [IMAGES[0], IMAGES[:, :7], IMAGES.astype(np.float32), IMAGES[..., :1]])
def test_images_that_do_not_fit(program, images):
    with pytest.raises(DataError, match="expected uint8 images of shape"):
        EnginePredictor(program)(images)


def test_outputs_that_do_not_fit_the_task(spec):
    program = segmenter(spec)
    wrong = type(program)(
        type(program.signature)("classification", spec, LABELS), program.runtime, program.precision, program.files
    )
    with pytest.raises(BundleError, match="classification with these labels needs"):
        EnginePredictor(wrong)(flat(0, 8, 8)[None])
