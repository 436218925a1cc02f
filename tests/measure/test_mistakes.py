"""What is counted as a mistake, by hand and on anything."""

import base64
import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from edgepress.measure.details import errors, layer_lines, pictures
from edgepress.measure.mistakes import encoded, mistakes


def test_confusion_and_the_surest_mistakes_by_hand() -> None:
    outputs = np.array([[4, 0, 0], [0, 9, 0], [0, 2, 1], [3, 0, 0], [0, 0, 5]], np.float32)
    targets = np.array([0, 0, 2, 1, 2])
    reference = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    found = mistakes("classification", outputs, targets, 3, reference)
    assert found["confusion"] == [[1, 1, 0], [1, 0, 0], [0, 1, 1]]
    assert [entry["index"] for entry in found["worst"]] == [1, 3, 2]
    surest = found["worst"][0]
    assert (surest["true"], surest["given"], surest["also"]) == (0, 1, False)
    assert surest["sure"] == round(100 / (1 + 2 * np.exp(-9)), 1)
    assert found["worst"][2]["also"] is True
    assert sorted(found["pairs"]) == [[0, 1, 1], [1, 0, 1], [2, 1, 1]]


@given(
    arrays(np.float32, (7, 4), elements=st.floats(-50, 50, width=32)), arrays(np.int64, 7, elements=st.integers(0, 3))
)
def test_every_image_is_counted_once(outputs: np.ndarray, targets: np.ndarray) -> None:
    found = mistakes("classification", outputs, targets, 4)
    counts = np.array(found["confusion"])
    wrong = int((outputs.argmax(axis=1) != targets).sum())
    assert counts.sum() == 7 and counts.sum() - counts.trace() == wrong == len(found["worst"])
    assert sum(count for *_, count in found["pairs"]) == wrong
    assert all(entry["also"] is None and 0 < entry["sure"] <= 100 for entry in found["worst"])


def test_many_classes_have_no_table_but_pairs() -> None:
    outputs = np.eye(300, dtype=np.float32)[[5, 5, 9]]
    found = mistakes("classification", outputs, np.array([7, 7, 9]), 300)
    assert found["confusion"] is None and found["pairs"] == [[7, 5, 2]]


def test_pixels_that_are_void_do_not_count() -> None:
    outputs = np.zeros((2, 3, 4, 4), np.float32)
    outputs[:, 1] = 1
    targets = np.ones((2, 4, 4), np.int64)
    targets[0, :2] = 255
    targets[1, 0] = 2
    found = mistakes("segmentation", outputs, targets, 3)
    assert found["confusion"] == [[0, 0, 0], [0, 20, 0], [0, 4, 0]]
    assert [(entry["index"], entry["sure"]) for entry in found["worst"]] == [(1, 75.0), (0, 100.0)]
    seen = np.zeros((2, 4, 4, 3), np.uint8)
    shown = errors(found, ("a", "b", "c"), pictures(found, seen))
    assert shown is not None and shown.pixels and shown.pictures[0].overlay.startswith("data:image/png;base64,")


def test_pictures_are_the_images() -> None:
    seen = np.random.default_rng(0).integers(0, 256, (1, 9, 7, 3), dtype=np.uint8)
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded(seen[0])))))
    assert (back == seen[0]).all()
    gray = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded(seen[0, ..., :1])))))
    assert (gray == seen[0, ..., 0]).all()


def test_layers_join_what_was_timed_with_what_is_held() -> None:
    layers = [
        {"name": "conv1", "kind": "QLinearConv", "share": 60.0, "ms": 0.6, "layer": 0},
        {"name": "fc", "kind": "QGemm", "share": 15.0, "ms": 0.15, "layer": 1},
        {"name": "fc", "kind": "Softmax", "share": 5.0, "ms": 0.05, "layer": 1},
        {"name": "n0", "kind": "QuantizeLinear", "share": 20.0, "ms": 0.2, "layer": None},
    ]
    files = [
        {"operation": "Conv", "shape": [8, 3, 3, 3], "bytes": 216},
        {"operation": "Gemm", "shape": [10, 8], "bytes": 432},
    ]
    first, second, rest = layer_lines(layers, files, ["conv1", "fc"], {"fc": 2.0, "conv1": 1.0})
    assert (first.name, first.kind, first.shape, first.bytes, first.bytes_share) == (
        "conv1",
        "QLinearConv",
        "8x3x3x3",
        "216 B",
        50,
    )
    assert (second.kind, second.share, second.ms, second.sensitivity_share) == ("QGemm", 20.0, "0.200", 100.0)
    assert first.sensitivity == "1" and rest.name == "everything else" and rest.share == 20.0
    assert [line.name for line in layer_lines([], files, [], {})] == ["layer 1", "layer 2"]
    assert layer_lines([], [], ["conv1"], {}) == []
