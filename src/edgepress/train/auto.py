"""What `distill` minimizes where nobody says: the losses by the kind of pair, and the reason. Light.

So far all kinds get plain distillation, the one way that rows of ours show to gain (`resnet8-kd-fp32` against
`resnet8-alone-fp32`). The figure `distill-methods` compares the others: its rows are what may change this table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from edgepress.core.artifact import Builder
    from edgepress.train.stages import Distill

Kind = Literal["same family", "other family", "several teachers"]


@dataclass(frozen=True)
class Choice:
    """The losses for a kind of pair, and why these."""

    losses: tuple[str | dict[str, Any], ...]
    why: str


KD: dict[str, Any] = {"kd": {"weight": 0.9, "temperature": 4}}
LABELS: dict[str, Any] = {"supervised": {"weight": 0.1}}

# What is chosen is in no key of a stage: whoever changes this raises `Distill.version`, or kept students stay.
CHOICES: dict[Kind, Choice] = {
    "same family": Choice((KD, LABELS), "softened outputs gained 0.8 points from ResNet-20 to ResNet-8"),
    "other family": Choice((KD, LABELS), "softened outputs ask nothing of the layers, which are not alike"),
    "several teachers": Choice((KD, LABELS), "the mean of their softened outputs; their layers have none"),
}


def family_of(builder: "Builder") -> str:
    """Return the family of networks that a builder's name tells: `cifar_resnet20`, `timm:resnet18.a1_in1k` and
    `resnet50` are of the family `resnet`. A network of the user's own is a family by itself."""
    name = builder.name
    if ":" in name and not name.startswith(("timm:", "torchvision:")):
        return name
    found = re.match(r"(?:cifar_|digits_)?([a-z]+)", name.rpartition(":")[2].lower())
    return found.group(1) if found else name


def kind_of(student: "Builder", teachers: "Sequence[Builder]") -> Kind:
    """Return which kind of pair a student and its teachers are."""
    if len(teachers) > 1:
        return "several teachers"
    return "same family" if family_of(student) == family_of(teachers[0]) else "other family"


def chosen(stage: "Distill", student: "Builder", teachers: "Sequence[Builder]") -> "tuple[Distill, str]":
    """Return `stage` with its losses named, and the sentence that says why these."""
    kind = kind_of(student, teachers)
    choice = CHOICES[kind]
    return replace(stage, losses=choice.losses), f"losses by the kind of pair ({kind}): {choice.why}"
