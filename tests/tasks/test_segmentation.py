import numpy as np
import pytest

from edgepress.core.errors import ConfigError
from edgepress.tasks.base import tasks
from edgepress.tasks.segmentation import Segments

TASK = tasks.get("segmentation")


def outputs_for(decided, classes):
    """Return logits `(N, classes, H, W)` that decide for the class map `decided`."""
    return np.moveaxis(np.eye(classes, dtype=np.float32)[decided], -1, 1)


def scores(decided, targets, classes):
    meter = TASK.meter(classes)
    meter.update(outputs_for(decided, classes), targets)
    return meter.result()


def test_by_hand():
    decided = np.array([[[0, 0, 1, 1]]])
    targets = np.array([[[0, 1, 1, 255]]])
    # Class 0: one hit of two pixels. Class 1: one hit of two. The void pixel is nowhere.
    result = scores(decided, targets, 3)
    assert result == {
        "miou": 50,
        "pixel_accuracy": pytest.approx(200 / 3),
        "iou_0": 50,
        "iou_1": 50,
    }


def test_a_class_seen_but_not_there_counts_as_zero():
    result = scores(np.array([[[0, 2]]]), np.array([[[0, 0]]]), 3)
    assert result["iou_2"] == 0 and result["miou"] == 25 and "iou_1" not in result


def test_against_sets_of_pixels():
    rng = np.random.default_rng(0)
    decided, targets = rng.integers(0, 5, (2, 3, 8, 8))
    targets[rng.random(targets.shape) < 0.2] = 255
    kept = targets != 255
    pairs = [(decided[kept] == k, targets[kept] == k) for k in range(5)]
    expected = np.array([(a & b).sum() / (a | b).sum() for a, b in pairs])
    meter = TASK.meter(5)
    for k in range(len(decided)):
        meter.update(outputs_for(decided[k : k + 1], 5), targets[k : k + 1])
    result = meter.result()
    assert [result[f"iou_{k}"] for k in range(5)] == pytest.approx(100 * expected)
    assert result["miou"] == pytest.approx(100 * expected.mean())
    assert result["pixel_accuracy"] == pytest.approx(100 * (decided[kept] == targets[kept]).mean())


def test_nothing_but_void():
    assert scores(np.zeros((1, 2, 2), int), np.full((1, 2, 2), 255), 2) == {"miou": 0, "pixel_accuracy": 0}


def test_a_broken_network_does_not_score():
    meter = TASK.meter(3)
    meter.update(np.full((1, 3, 2, 2), np.nan, np.float32), np.zeros((1, 2, 2), np.int64))
    assert meter.result() == {"miou": 0, "pixel_accuracy": 0, "iou_0": 0}


def test_too_many_classes_for_a_class_map():
    with pytest.raises(ConfigError, match="at most 255"):
        TASK.meter(256)


def test_agreement_is_per_pixel():
    a = outputs_for(np.array([[[0, 1], [1, 0]]]), 2)
    b = outputs_for(np.array([[[0, 1], [1, 1]]]), 2)
    assert TASK.agreement(a, b) == 75


def test_decode():
    (answer,) = TASK.decode(outputs_for(np.array([[[0, 2], [2, 1]]]), 3), ("sky", "road", "car"))
    assert isinstance(answer, Segments)
    assert answer.classes.dtype == np.uint8 and answer.classes.tolist() == [[0, 2], [2, 1]]
    assert answer.shares() == {"sky": 0.25, "road": 0.25, "car": 0.5}
