"""Distillation: golden values of the loss, and a teacher that is asked once per image and view."""

import dataclasses
from math import exp, log

import numpy as np
import pytest
import torch

from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.tasks.base import tasks
from edgepress.train.loader import Batch
from edgepress.train.objectives.kd import KD
from edgepress.train.objectives.supervised import Supervised
from edgepress.train.stages import Distill, Train
from train.helpers import NET, Recorder, context, same_weights, tiny_data

TASK = tasks.get("classification")
TEACHER = Train(epochs=2, model=NET, arguments={"width": 16}, batch=32, lr=0.05, precision="fp32")
STUDENT = Distill(epochs=4, model=NET, batch=32, lr=0.05, precision="fp32", teacher="$teacher", views=2)


def batch(teacher: torch.Tensor, targets: torch.Tensor) -> Batch:
    return Batch(torch.zeros(len(targets), 1), targets, torch.arange(len(targets)), 0, teacher)


def softmax(values: list[float], temperature: float) -> list[float]:
    scaled = [exp(value / temperature) for value in values]
    return [value / sum(scaled) for value in scaled]


def test_kd_equals_the_formula_worked_by_hand():
    students, teachers, t = [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], [[2.0, 1.0, 0.0], [0.5, 0.0, 2.5]], 4.0
    expected = 0.0
    for student, teacher in zip(students, teachers, strict=True):
        p, q = softmax(teacher, t), softmax(student, t)
        expected += sum(a * log(a / b) for a, b in zip(p, q, strict=True)) * t * t / 2
    got = KD(t)(torch.tensor(students), batch(torch.tensor(teachers), torch.tensor([0, 2])), TASK)
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_kd_agrees_with_an_independent_implementation_and_its_gradient():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    KD(3.0)(student, batch(teacher, torch.zeros(5, dtype=torch.long)), TASK).backward()
    # d/dz of T^2 KL is T (softmax(z / T) - softmax(t / T)), here over a batch of 5.
    expected = 3.0 * ((student / 3).softmax(1) - (teacher / 3).softmax(1)) / 5
    torch.testing.assert_close(student.grad, expected)


def test_kd_is_zero_for_equal_outputs_and_dense_aware():
    outputs = torch.randn(2, 4, 3, 3)
    assert KD(2.0)(outputs, batch(outputs, torch.zeros(2, 3, 3)), TASK).item() == pytest.approx(0, abs=1e-6)
    flat = lambda x: x.permute(0, 2, 3, 1).reshape(-1, 4)  # noqa: E731
    other = torch.randn(2, 4, 3, 3)
    dense = KD(2.0)(outputs, batch(other, torch.zeros(2, 3, 3)), TASK)
    rows = KD(2.0)(flat(outputs), batch(flat(other), torch.zeros(18)), TASK)
    assert dense.item() == pytest.approx(rows.item(), rel=1e-5)


def test_supervised_smooths_labels():
    outputs, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    right, wrong = -log(softmax([2.0, 0.0], 1)[0]), -log(softmax([2.0, 0.0], 1)[1])
    got = Supervised(0.2)(outputs, batch(outputs, targets), TASK).item()
    assert got == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-5)


def test_the_teacher_runs_once_per_view_whatever_the_epochs(tmp_path):
    data = tiny_data()
    teacher = TEACHER(None, context(tmp_path, data=data)).with_key("teacher")
    seen = Recorder()
    student = STUDENT(None, context(tmp_path, data=data, references={"$teacher": teacher}, progress=seen))
    assert [label for label in seen.labels if label.startswith("teacher")] == ["teacher, view 1", "teacher, view 2"]
    again = Recorder()
    same = STUDENT(None, context(tmp_path, data=data, references={"$teacher": teacher}, progress=again))
    assert not [label for label in again.labels if label.startswith("teacher")]
    assert same_weights(student.module, same.module)


def test_kept_outputs_are_those_of_a_live_teacher(tmp_path):
    data = tiny_data(64)
    teacher = TEACHER(None, context(tmp_path, data=data)).with_key("teacher")
    STUDENT(None, context(tmp_path, data=data, references={"$teacher": teacher}))
    from edgepress.models.inputs import normalize
    from edgepress.train.config import Augment
    from edgepress.train.loader import Loader

    loader = Loader(data.train, data.input, Augment(), 64, 0, torch.device("cpu"), views=2)
    [files] = [sorted(folder.glob("view-*.npy")) for folder in (tmp_path / "teacher").iterdir()]
    kept = np.load(files[1])
    with torch.inference_mode():
        live = teacher.module(normalize(next(iter(loader.in_order(1, 64))).images, data.input))
    np.testing.assert_allclose(kept, live.numpy(), atol=0.05, rtol=0.02)


def test_the_teacher_stays_untouched_and_frozen(tmp_path):
    data = tiny_data()
    teacher = TEACHER(None, context(tmp_path, data=data)).with_key("teacher")
    before = {name: value.clone() for name, value in teacher.module.state_dict().items()}
    live = dataclasses.replace(STUDENT, views=0, epochs=1)
    live(None, context(tmp_path, data=data, references={"$teacher": teacher}))
    assert all(torch.equal(value, teacher.module.state_dict()[name]) for name, value in before.items())
    assert all(p.grad is None for p in teacher.module.parameters())


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    teacher = TEACHER(None, context(tmp_path)).with_key("teacher")
    swapped = dataclasses.replace(tiny_data(), labels=("columns", "rows"))
    with pytest.raises(ConfigError, match=r"classes: the network has .*'rows', 'columns'"):
        STUDENT(None, context(tmp_path, data=swapped, references={"$teacher": teacher}))


def test_a_teacher_of_another_number_of_classes_and_another_size_is_refused(tmp_path):
    data = tiny_data()
    teacher = TEACHER(None, context(tmp_path, data=data)).with_key("teacher")
    larger = dataclasses.replace(data.input, height=16, width=16)
    signature = dataclasses.replace(teacher.signature, labels=("rows", "columns", "dots"), input=larger)
    with pytest.raises(ConfigError) as error:
        STUDENT(None, context(tmp_path, references={"$teacher": dataclasses.replace(teacher, signature=signature)}))
    assert "number of classes: the network has 3, the data set 'stripes' has 2" in error.value.problems
    assert "input size: the network has (3, 16, 16), the data set 'stripes' has (3, 8, 8)" in error.value.problems


def test_a_network_that_gives_something_else_than_one_value_per_class_is_refused(tmp_path):
    teacher = TEACHER(None, context(tmp_path)).with_key("teacher")
    for module, words in (
        (
            torch.nn.Sequential(teacher.module, torch.nn.Linear(2, 7)),
            r"gives a tensor \(1, 7\) for one image; 2 classes",
        ),
        (Named(teacher.module), "gives a dict for one image"),
    ):
        with pytest.raises(ConfigError, match=words):
            other = dataclasses.replace(teacher, module=module)
            STUDENT(None, context(tmp_path, references={"$teacher": other}))
    with pytest.raises(ConfigError, match="gives a dict"):
        dataclasses.replace(TEACHER, model="train.test_distill:named", arguments={})(None, context(tmp_path))


class Named(torch.nn.Module):
    """A network as detection libraries write them: its outputs have names."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return {"out": self.inner(images)}


def named(classes: int, channels: int) -> torch.nn.Module:
    """A factory for such a network."""
    return Named(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * channels, classes)))


def test_an_exported_teacher_is_refused(tmp_path):
    from edgepress.core.artifact import Program

    program = Program(tiny_data().signature, "onnx", "fp32", {})
    with pytest.raises(ConfigError, match="'teacher' names an exported program"):
        STUDENT(None, context(tmp_path, references={"$teacher": program}))


def test_outputs_beyond_fp16_are_kept_as_its_largest_and_nan_is_refused(tmp_path):
    from edgepress.core.errors import TrainingError
    from edgepress.core.files import write_array
    from edgepress.train.views import halves

    write_array(tmp_path / "a.npy", halves(np.array([[1e6, -1e6, 0.5]], np.float32)))
    assert np.load(tmp_path / "a.npy").tolist() == [[65504.0, -65504.0, 0.5]]
    with pytest.raises(TrainingError, match="NaN"):
        write_array(tmp_path / "b.npy", halves(np.array([[np.nan]], np.float32)))
    assert not (tmp_path / "b.npy").exists()


def test_teachers_without_a_key_do_not_share_their_outputs(tmp_path):
    one = TEACHER(None, context(tmp_path))
    other = dataclasses.replace(TEACHER, lr=0.01)(None, context(tmp_path))
    for teacher in (one, other):
        STUDENT(None, context(tmp_path, references={"$teacher": teacher}))
    assert len(list((tmp_path / "teacher").iterdir())) == 2


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": 0.0}, "says nothing at 'alpha: 0'"),
        ({"augment": {"mixup": 0.2}}, "mixup"),
    ],
)
def test_bad_fields_are_named(fields, word):
    assert any(word in problem for problem in dataclasses.replace(STUDENT, **fields).check())


def test_a_teacher_is_required():
    with pytest.raises(ConfigError, match="'teacher' is required"):
        parse(Distill, {"epochs": 1})
