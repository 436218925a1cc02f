"""What every task promises, whichever is added."""

import numpy as np
import pytest

from edgepress.tasks.base import Meter, Task, tasks

SHAPES = {"classification": (4, 6), "segmentation": (4, 6, 5, 7)}


@pytest.fixture(params=sorted(tasks))
def name(request):
    return request.param


def test_main_score_is_among_the_results_and_perfect_for_the_truth(name):
    task = tasks.get(name)
    assert isinstance(task, Task)
    outputs = np.random.default_rng(0).normal(size=SHAPES[name]).astype(np.float32)
    meter = task.meter(6)
    assert isinstance(meter, Meter)
    meter.update(outputs, outputs.argmax(axis=1))
    result = meter.result()
    assert result[task.main] == 100
    assert all(isinstance(value, float) for value in result.values())


def test_a_fresh_meter_has_a_result(name):
    assert np.isfinite(list(tasks.get(name).meter(6).result().values())).all()


def test_agreement_with_itself_and_with_nothing(name):
    task = tasks.get(name)
    outputs = np.random.default_rng(0).normal(size=SHAPES[name]).astype(np.float32)
    assert task.agreement(outputs, outputs) == 100
    assert task.agreement(outputs, -outputs) < 100
    assert task.agreement(outputs[:0], outputs[:0]) == 100


def test_decode_gives_one_answer_per_image(name):
    outputs = np.zeros(SHAPES[name], np.float32)
    assert len(tasks.get(name).decode(outputs, tuple("abcdef"))) == len(outputs)
