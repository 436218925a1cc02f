import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.tasks.base import tasks
from edgepress.tasks.classification import Prediction, softmax

TASK = tasks.get("classification")


def logits(*rows):
    return np.asarray(rows, np.float32)


def scores(outputs, targets, batch=10_000):
    meter = TASK.meter(outputs.shape[1])
    for start in range(0, len(outputs), batch):
        meter.update(outputs[start : start + batch], targets[start : start + batch])
    return meter.result()


def test_top1_by_hand():
    outputs = logits([2, 1, 0], [0, 2, 1], [0, 1, 2], [2, 1, 0])
    assert scores(outputs, np.array([0, 1, 0, 1]))["top1"] == 50


def test_top5_counts_the_five_best():
    outputs = np.tile(np.arange(10, dtype=np.float32), (10, 1))  # class 9 is best, 5 the fifth
    result = scores(outputs, np.arange(10))
    assert result["top1"] == 10 and result["top5"] == 50


def test_no_top5_among_five_classes():
    assert "top5" not in scores(np.zeros((2, 5), np.float32), np.array([0, 1]))


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 40), st.integers(1, 7))
def test_against_a_plain_count_whatever_the_batches(seed, classes, count, batch):
    rng = np.random.default_rng(seed)
    outputs = rng.integers(-2, 3, (count, classes)).astype(np.float32)  # many ties
    targets = rng.integers(0, classes, count)
    result = scores(outputs, targets, batch)
    assert result["top1"] == pytest.approx(100 * np.mean(outputs.argmax(1) == targets))
    if classes > 5:
        best = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
        assert result["top5"] == pytest.approx(100 * np.mean((best == targets[:, None]).any(1)))
    assert result == pytest.approx(scores(outputs, targets))


def test_ece_by_hand():
    # Four answers with confidence 0.8 of which two are right: 30 points of error.
    sure = np.log(np.array([[0.8, 0.2]] * 4, np.float32))
    assert scores(sure, np.array([0, 0, 1, 1]))["ece"] == pytest.approx(30, abs=1e-3)
    assert scores(sure[:1] * 100, np.array([0]))["ece"] == pytest.approx(0, abs=1e-3)


def test_void_does_not_count():
    outputs = logits([2, 1], [2, 1], [2, 1])
    assert scores(outputs, np.array([0, 255, 1]))["top1"] == 50
    assert scores(outputs, np.array([255, 255, 255])) == {"top1": 0, "ece": 0}


def test_class_255_counts_among_1000():
    outputs = np.zeros((2, 1000), np.float32)
    outputs[:, 255] = 1
    assert scores(outputs, np.array([255, 3]))["top1"] == 50


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_network_does_not_score(value):
    outputs = np.full((3, 8), value, np.float32)
    result = scores(outputs, np.array([0, 0, 0]))
    assert result["top1"] == 0 and result["top5"] == 0 and result["ece"] == 100


def test_agreement():
    a = logits([2, 1], [1, 2], [2, 1], [1, 2])
    assert TASK.agreement(a, a * 3) == 100
    assert TASK.agreement(a, logits([9, 1], [1, 9], [1, 9], [9, 1])) == 50


def test_decode():
    answer, other = TASK.decode(logits([0, 3, 1], [3, 0, 1]), ("ant", "bee", "cat"))
    assert isinstance(answer, Prediction)
    assert answer.label == "bee" and other.label == "ant"
    assert [label for label, _ in answer.top] == ["bee", "cat", "ant"]
    assert answer.score == answer.top[0][1] == pytest.approx(np.exp(3) / (1 + np.exp(3) + np.exp(1)), abs=1e-6)
    assert sum(score for _, score in answer.top) == pytest.approx(1, abs=1e-6)


def test_decode_gives_the_best_five():
    (answer,) = TASK.decode(np.arange(9, dtype=np.float32)[None], tuple("abcdefghi"))
    assert [label for label, _ in answer.top] == list("ihgfe")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=8))
def test_softmax_is_a_distribution_for_any_finite_logits(row):
    result = softmax(logits(row))
    assert np.isfinite(result).all() and result.sum() == pytest.approx(1, abs=1e-5)
