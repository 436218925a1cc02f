"""The words of a recipe: methods, lists of losses, and every mistake in them at once."""

import dataclasses
from typing import Any

import pytest
from torch import nn

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.config import dump, parse
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.models.stages import Load
from edgepress.recipes.keys import stage_key
from edgepress.recipes.recipe import Step, parse_recipe
from edgepress.train.auto import chosen
from edgepress.train.objectives.base import objectives
from edgepress.train.objectives.supervised import Supervised
from edgepress.train.stages import Distill, Mutual, Train
from edgepress.train.words import PAPERS

PLAIN = Distill(epochs=1, model="cifar_resnet8", teacher="$teacher")


def terms(stage: Any) -> list[tuple[str, float]]:
    return [(name, weight) for name, weight, _ in stage.objective().terms]


def test_the_default_is_plain_distillation() -> None:
    assert terms(PLAIN) == [("kd", 0.7), ("ce", pytest.approx(0.3))]
    assert terms(dataclasses.replace(PLAIN, alpha=0.9)) == [("kd", 0.9), ("ce", pytest.approx(0.1))]


def test_a_method_has_the_weights_of_its_paper() -> None:
    assert terms(dataclasses.replace(PLAIN, method="dkd")) == [("dkd", 1.0), ("ce", 1.0)]
    assert terms(dataclasses.replace(PLAIN, method="standardized")) == [("standardized", 9.0), ("ce", 0.1)]


def test_a_list_of_losses_stands_beside_the_labels() -> None:
    stage = dataclasses.replace(PLAIN, losses=({"dkd": {"weight": 2, "beta": 4}}, "review"))
    assert stage.check() == []
    assert terms(stage) == [("dkd", 2.0), ("review", 1.0), ("ce", 1.0)]
    assert stage.objective().terms[0][2] == objectives.get("dkd")(beta=4.0)
    again = parse(Distill, dump(stage))
    assert again == stage and again.objective() == stage.objective()
    alone = dataclasses.replace(PLAIN, losses=("dkd", {"supervised": {"weight": 0.5}}))
    assert terms(alone) == [("dkd", 1.0), ("ce", 0.5)]
    twice = dataclasses.replace(PLAIN, losses=("kd", {"kd": {"temperature": 1}}))
    assert terms(twice)[:2] == [("kd", 0.7), ("kd_2", 0.7)]


def test_training_alone_takes_losses_that_need_no_teacher() -> None:
    stage = Train(epochs=1, model="cifar_resnet8", losses=("entropy", {"virtual_teacher": {"weight": 0.5}}))
    assert stage.check() == []
    assert terms(stage) == [("entropy", 0.1), ("virtual_teacher", 0.5), ("ce", 1.0)]
    [problem] = dataclasses.replace(stage, losses=("dkd",)).check()
    assert "'dkd' needs a teacher" in problem and "entropy" in problem


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "dkdd"}, ["unknown objective 'dkdd'; did you mean 'dkd'?"]),
        ({"method": "OFD"}, ["unknown objective 'OFD'; it is called 'margin' here"]),
        ({"losses": ("fit-net",)}, ["it is called 'hint' here"]),
        ({"method": "entropy"}, ["'entropy' does not learn from a teacher"]),
        ({"losses": ("entropy",)}, ["none of them learns from the teacher"]),
        ({"losses": ({"dkd": {"wait": 1}},)}, ["unknown field 'wait'; did you mean 'weight'?"]),
        ({"losses": ({"dkd": {"weight": -1}},)}, ["'weight' must be a number, 0 or more, got -1"]),
        ({"losses": ({"dkd": {"weight": "much"}},)}, ["'weight' must be a number"]),
        ({"losses": ({"kd": {"temperature": 0}},)}, ["temperature must be above 0, got 0"]),
        ({"losses": ({"dkd": {}, "kd": {}},)}, ["expected a loss, or one loss with its fields"]),
        ({"losses": ("kd", "kd")}, ["listed twice"]),
        (
            {"losses": ("rwiew", {"dkd": {"betta": 1}}, {"hint": {"student": ["a"]}})},
            ["review", "beta", "belong together"],
        ),
        ({"losses": ("dkd",), "method": "dist"}, ["say the same thing twice"]),
        ({"method": "dkd", "temperature": 2.0}, ["belong to the method 'kd'"]),
        ({"temperature": 0.0, "alpha": 1.5}, ["'temperature' must be above 0", "'alpha' must be in [0, 1]"]),
        ({"temperature": float("inf")}, ["'temperature' must be above 0, got inf"]),
        ({"teacher": ("$a", "$a")}, ["names the same stage twice"]),
        ({"teacher": ()}, ["must name at least one earlier stage"]),
        ({"teacher": ("$a", "$b"), "teacher_weights": (1.0,)}, ["one weight per teacher"]),
        ({"teacher": ("$a", "$b"), "teacher_weights": (1.0, 0.0)}, ["must be above 0"]),
        ({"teacher": ("$a", "$b"), "method": "hint"}, ["losses on features need one teacher"]),
        ({"vote": "confidence"}, ["at least two teachers"]),
        ({"augment": {"mixup": 0.2}}, ["mixup blends images"]),
    ],
)
def test_every_mistake_is_named(fields: dict[str, Any], words: list[str]) -> None:
    problems = dataclasses.replace(PLAIN, **fields).check()
    assert len(problems) == len(words), problems
    for problem, word in zip(problems, words, strict=True):
        assert word in problem


def test_what_papers_call_a_loss_is_a_loss() -> None:
    assert all(name in objectives for name in PAPERS.values()) and not any(name in objectives for name in PAPERS)


def test_what_is_written_counts_even_where_it_is_the_default() -> None:
    assert PLAIN.undecided and not dataclasses.replace(PLAIN, temperature=4.0).undecided
    assert dataclasses.replace(PLAIN, temperature=4.0).objective() == PLAIN.objective()
    wrong = dataclasses.replace(PLAIN, method="standardized", temperature=4.0).check()
    assert any("belong to the method 'kd'" in line for line in wrong)


def test_labels_are_smoothed_where_the_losses_were_chosen_or_listed() -> None:
    smooth = dataclasses.replace(PLAIN, label_smoothing=0.1)
    signature = Signature("classification", InputSpec(32, 32), tuple(f"class {number}" for number in range(100)))
    student = Model(nn.Identity(), Builder("cifar_resnet8"), signature)
    stage, _ = chosen(smooth, student, [student])
    listed = dataclasses.replace(smooth, losses=("kd", {"supervised": {"weight": 0.5}}))
    own = dataclasses.replace(smooth, losses=("kd", {"supervised": {"label_smoothing": 0.2}}))
    for made, expected in ((stage, 0.1), (listed, 0.1), (own, 0.2)):
        [labels] = [term for _, _, term in made.objective().terms if isinstance(term, Supervised)]
        assert labels.label_smoothing == expected


def test_mutual_learning_names_its_mistakes() -> None:
    assert Mutual(epochs=1, model="cifar_resnet8").check() == []
    assert "'temperature'" in Mutual(epochs=1, model="x", temperature=0.0).check()[0]
    assert "'weight'" in Mutual(epochs=1, model="x", weight=0.0).check()[0]
    assert "'peer_arguments'" in Mutual(epochs=1, model="x", peer_arguments={"width": 8}).check()[0]


KEPT = {"epochs": 12, "lr": 0.05, "weight_decay": 2e-4, "warmup": 0.1, "precision": "bf16", "augment": {"pad": 2}}


def test_fields_that_came_later_leave_older_keys_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # The keys that these stages had before a training had losses of its own, at the versions of that day.
    monkeypatch.setattr(Distill, "version", 3)
    monkeypatch.setattr(Train, "version", 1)
    stage = Distill(teacher="$teacher", views=6, alpha=0.9, **KEPT)
    inputs = {"start": "510e98c74e411bfa", "teacher": "704476e19660e4bd"}
    key = stage_key(Step("student", stage, "start", 0), inputs, "data-fixed")
    assert key == "7f81d53f7290b76d"
    train = Train(model="cifar_resnet8", **{**KEPT, "epochs": 26, "lr": 0.2})
    assert stage_key(Step("student", train, None, 0), {}, "data-fixed") == "4e28e1076b7338a8"
    other = dataclasses.replace(stage, losses=("kd",))
    assert stage_key(Step("student", other, "start", 0), inputs, "data-fixed") != key
    assert set(Distill.later) | set(Train.later) <= {f.name for f in dataclasses.fields(Distill)}


def test_several_teachers_are_named_and_enter_the_key_by_what_they_are() -> None:
    def recipe(one: str, other: str, teachers: list[str]) -> dict[str, Any]:
        load = {"model": "cifar_resnet20"}
        return {
            "name": "two",
            "data": {"synthetic": {}},
            "stages": [
                {"load": {"name": one, **load}},
                {"load": {"name": other, "seed": 1, **load}},
                {"distill": {"model": "cifar_resnet8", "epochs": 1, "teacher": teachers}},
            ],
        }

    step = parse_recipe(recipe("one", "other", ["$one", "$other"])).steps[-1]
    assert step.references() == {"teacher.0": "one", "teacher.1": "other"}
    key = stage_key(step, {"one": "1" * 16, "other": "2" * 16}, "data")
    renamed = parse_recipe(recipe("a", "b", ["$a", "$b"])).steps[-1]
    assert stage_key(renamed, {"a": "1" * 16, "b": "2" * 16}, "data") == key
    assert stage_key(step, {"one": "2" * 16, "other": "1" * 16}, "data") != key
    with pytest.raises(ConfigError, match="'othr', which is no earlier stage; did you mean 'other'"):
        parse_recipe(recipe("one", "other", ["$one", "$othr"]))
    assert Load(model="cifar_resnet20").check() == []
