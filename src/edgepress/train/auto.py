"""What `distill` minimizes where nobody says: the losses by the kind of pair, and the reason. Light.

The reasons are rows: `resnet56-resnet20-...` of the figure `distill-pairs` for a student of the teacher's family,
`resnet20-light_cnn-...` of `distill-methods` and `resnet56-mobilenet_v2_half-...` of `distill-pairs` for one of
another; `resnet8-kd-fp32` and `resnet8-alone-fp32` (ten classes) for plain distillation, which is also what the kinds
get that nobody has compared yet. Of class maps LOG.md tells.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from edgepress.core.artifact import Builder, Model
    from edgepress.train.stages import Distill

FEW = 10
"""Up to so many classes an answer has few relations between them to learn: of two there is none."""

LEVELS = 2
"""Layers are compared where the maps of both networks share so many sizes."""

Kind = Literal[
    "class maps", "several teachers", "recovery", "few classes", "logits only", "same family", "other family"
]
"""`recovery`: the student is not made anew, it is a network that an edit before has hurt. `logits only`: the maps
of the two networks do not share the sizes of their stages."""


@dataclass(frozen=True)
class Choice:
    """The losses for a kind of pair, and why these."""

    losses: tuple[str | dict[str, Any], ...]
    why: str


KD: dict[str, Any] = {"kd": {"weight": 0.9, "temperature": 4}}
LABELS: dict[str, Any] = {"supervised": {"weight": 0.1}}

# What is chosen is in no key of a stage: whoever changes this raises `Distill.version`, or kept students stay.
CHOICES: dict[Kind, Choice] = {
    "class maps": Choice(
        ({"kd": {"weight": 0.25, "temperature": 2}}, {"supervised": {"weight": 1.0}}),
        "a small part beside the labels; with more of it a U-Net on road scenes was worse than alone",
    ),
    "several teachers": Choice((KD, LABELS), "the mean of their softened outputs; their layers have none"),
    "recovery": Choice((KD, LABELS), "softened outputs lead an edited network back to what it knew"),
    "few classes": Choice((KD, LABELS), "softened outputs gained 0.8 points from ResNet-20 to ResNet-8 on ten classes"),
    "logits only": Choice(
        ("dist",),
        "stages of student and teacher have maps of other sizes; relations of outputs gained 1.6 points over softened "
        "ones from ResNet-56 to ResNet-20 on a hundred classes",
    ),
    "same family": Choice(
        ("review",),
        "fused features gained 2.2 points over softened outputs from ResNet-56 to ResNet-20 on a hundred classes; "
        "'method: dist' gained 1.6, and does not run the teacher on every batch",
    ),
    "other family": Choice(
        ({"review": {"weight": 5}},),
        "fused features gained 7.5 points over softened outputs from ResNet-56 to a MobileNetV2 on a hundred classes, "
        "8.0 from ResNet-20 to a light CNN; 'method: kd' does not run the teacher on every batch",
    ),
}


def family_of(builder: "Builder") -> str:
    """Return the family of networks that a builder's name tells: `cifar_resnet20`, `timm:resnet18.a1_in1k` and
    `resnet50` are of the family `resnet`. A network of the user's own is a family by itself."""
    name = builder.name
    if ":" in name and not name.startswith(("timm:", "torchvision:")):
        return name
    found = re.match(r"(?:cifar_|digits_)?([a-z]+)", name.rpartition(":")[2].lower())
    return found.group(1) if found else name


def kind_of(stage: "Distill", student: "Model", teachers: "Sequence[Model]") -> Kind:
    """Return which kind of pair a student, as `stage` takes it up, and its teachers are."""
    if student.signature.task == "segmentation":
        return "class maps"
    if len(teachers) > 1:
        return "several teachers"
    if stage.model is None:
        return "recovery"
    if len(student.signature.labels) <= FEW:
        return "few classes"
    return kin(student.builder, teachers[0].builder) if _meet(student, teachers[0]) else "logits only"


def _meet(student: "Model", teacher: "Model") -> bool:
    from edgepress.train.pairing import dry_run, of_one_size, stages

    ends = [stages(dry_run(model.module, model.signature.input)) for model in (student, teacher)]
    return len({ours.resolution for ours, _ in of_one_size(*ends)}) >= LEVELS


def kin(student: "Builder", teacher: "Builder") -> Kind:
    """Return which kind of pair two networks are by their families alone."""
    return "same family" if family_of(student) == family_of(teacher) else "other family"


def chosen(stage: "Distill", student: "Model", teachers: "Sequence[Model]") -> "tuple[Distill, str]":
    """Return `stage` with its losses named, and the sentence that says why these."""
    kind = kind_of(stage, student, teachers)
    choice = CHOICES[kind]
    return replace(stage, losses=choice.losses), f"losses by the kind of pair ({kind}): {choice.why}"
