"""What `distill` does where no method is named."""

from dataclasses import replace

import pytest
from torch import nn

from edgepress.core.artifact import Builder, Model, Signature, TaskName
from edgepress.core.inputs import InputSpec
from edgepress.models.build import build
from edgepress.train.auto import CHOICES, chosen, family_of, kind_of
from edgepress.train.stages import Distill

STAGE = Distill(epochs=1, teacher="$teacher", model="cifar_resnet8")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("cifar_resnet20", "resnet"),
        ("resnet8x4", "resnet"),
        ("timm:resnet18.a1_in1k", "resnet"),
        ("torchvision:mobilenet_v2", "mobilenet"),
        ("mobilenet_v3_small", "mobilenet"),
        ("vgg13", "vgg"),
        ("my.own:network", "my.own:network"),
    ],
)
def test_the_family_is_read_from_the_name(name: str, family: str) -> None:
    assert family_of(Builder(name)) == family


LABELS = tuple(f"class {number}" for number in range(11))


def network(name: str, task: TaskName = "classification", labels: tuple[str, ...] = LABELS) -> Model:
    signature = Signature(task, InputSpec(32, 32), labels)
    return Model(build(Builder(name), signature), Builder(name), signature)


def test_the_kind_of_a_pair_decides() -> None:
    student, resnet, other = network("cifar_resnet8"), network("cifar_resnet20"), network("vgg8")
    assert kind_of(STAGE, student, [resnet]) == "same family"
    assert kind_of(STAGE, student, [other]) == "other family"
    assert kind_of(STAGE, student, [resnet, other]) == "several teachers"
    assert kind_of(STAGE, network("cifar_resnet8", labels=LABELS[:10]), [resnet]) == "few classes"
    assert kind_of(STAGE, network("unet", "segmentation"), [network("unet", "segmentation")]) == "class maps"
    assert kind_of(replace(STAGE, model=None), student, [student]) == "recovery"


def test_layers_are_compared_where_stages_meet() -> None:
    student, plain = network("cifar_resnet8"), network("digits_cnn")
    patches = replace(plain, module=nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(512, 11)))
    assert kind_of(STAGE, student, [patches]) == kind_of(STAGE, patches, [student]) == "logits only"
    stage, why = chosen(STAGE, student, [patches])
    assert [name for name, *_ in stage.objective().terms] == ["dist", "ce"] and "logits only" in why
    stage, _ = chosen(STAGE, student, [network("cifar_resnet20")])
    assert [name for name, *_ in stage.objective().terms] == ["review", "ce"]
    assert stage.views == STAGE.views, "what else the recipe says, counts"


def test_every_choice_is_a_recipe_that_checks() -> None:
    for choice in CHOICES.values():
        assert replace(STAGE, losses=choice.losses).check() == []


def test_nothing_said_is_undecided_and_anything_said_is_not() -> None:
    assert STAGE.undecided and STAGE.check() == []
    assert not replace(STAGE, method="kd").undecided
    assert not replace(STAGE, alpha=0.5).undecided
    assert not replace(STAGE, losses=("dkd",)).undecided


def test_the_reason_names_the_kind() -> None:
    stage, why = chosen(STAGE, network("vgg8"), [network("cifar_resnet8")])
    assert not stage.undecided and "other family" in why
