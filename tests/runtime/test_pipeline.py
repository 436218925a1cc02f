import numpy as np
import pytest
from PIL import Image

from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.pipeline import Pipeline, place, usable_cores
from edgepress.tasks.classification import Prediction
from edgepress.tasks.segmentation import Segments

from .tiny import classifier, flat, segmenter


def test_one_image_in_every_form(program, tmp_path):
    pipeline = Pipeline(program, threads=1)
    image = flat(1, 20, 30)
    Image.fromarray(image).save(tmp_path / "a.png")
    answers = [pipeline(i) for i in (image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png"))]
    assert all(isinstance(answer, Prediction) for answer in answers)
    assert {answer.label for answer in answers} == {"green"} and len(set(answers)) == 1


def test_several_images_keep_their_order(program):
    pipeline = Pipeline(program)
    images = [flat(k % 3, 10 + k, 12) for k in range(40)]  # more than one chunk, all of other sizes
    assert [answer.label for answer in pipeline(images)] == [("red", "green", "blue")[k % 3] for k in range(40)]
    batch = np.stack([flat(2, 9, 9), flat(0, 9, 9)])
    assert [answer.label for answer in pipeline(batch)] == ["blue", "red"]
    assert pipeline([]) == [] and pipeline(batch[:0]) == []
    assert len(pipeline(images[:1])) == 1


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_segments_lie_over_the_original_image(resize):
    pipeline = Pipeline(segmenter(InputSpec(8, 8, resize=resize)), threads=1)
    image = flat(0, 16, 32)
    image[:, 16:] = flat(2, 16, 16)  # left red, right blue
    answer = pipeline(image)
    assert isinstance(answer, Segments)
    assert answer.classes.shape == (16, 32) and answer.labels == ("red", "green", "blue")
    if resize == "stretch":
        assert (answer.classes[:, :16] == 0).all() and (answer.classes[:, 16:] == 2).all()
    else:  # the network saw the middle square
        assert (answer.classes[:, :8] == 255).all() and (answer.classes[:, 24:] == 255).all()
        assert (answer.classes[:, 8:16] == 0).all() and (answer.classes[:, 16:24] == 2).all()


def test_place_is_nearest():
    classes = np.array([[0, 1], [2, 3]], np.uint8)
    assert place(classes, (4, 2), (0, 0, 4, 2)).tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert place(classes, (4, 2), (1, 0, 3, 2)).tolist() == [[255, 0, 1, 255], [255, 2, 3, 255]]
    assert place(classes, (1, 1), (0, 0, 1, 1)).tolist() == [[3]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite(spec, value):
    with pytest.raises(DataError, match="not finite"):
        Pipeline(classifier(spec, scale=value), 1)(flat(0, 8, 8))


def test_a_bad_image_among_good_ones_is_named(program, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        Pipeline(program)([flat(0, 8, 8), bad])


@pytest.mark.parametrize("thing", [None, 3, {"a": 1}, b"bytes", [[1, 2]], [None]])
def test_what_is_no_image(program, thing):
    with pytest.raises(DataError, match="an image is a path, a PIL image or a uint8 array"):
        Pipeline(program)(thing)


def test_usable_cores():
    assert usable_cores() >= 1
