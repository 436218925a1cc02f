"""The two nouns a recipe passes on: an editable `Model`, an exported `Program`; the `Predictor` that hides which."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepress.core.config import STRICT
from edgepress.core.inputs import InputSpec

if TYPE_CHECKING:  # the light runtime reads this module, and has no torch
    from torch import nn

TaskName = Literal["classification", "segmentation"]


@dataclass(frozen=True)
class Builder:
    """How a network was built: a registered model name, `timm:name`, `torchvision:name`, `smp:name` or
    `package.module:factory`, and the keyword arguments it was called with (JSON values)."""

    __pydantic_config__ = STRICT

    name: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Signature:
    """What a network takes and gives, apart from its weights: the same for a model and the program exported from it."""

    __pydantic_config__ = STRICT

    task: TaskName
    input: InputSpec
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """An editable network at one point of its history.

    `edits` is the ordered record of structural changes that a state dict cannot carry (see `core.structure`);
    `precision` names how its weights and activations are held ("fp32", "w8a8" once quantized).
    """

    module: "nn.Module"
    builder: Builder
    signature: Signature
    edits: tuple[dict[str, Any], ...] = ()
    precision: str = "fp32"
    key: str = ""

    def with_key(self, key: str) -> "Model":
        """Return the same model under the key of the stage that made it."""
        return replace(self, key=key)


UNPROVEN = "unproven"
"""Where the provenance of a program that no runtime has opened says why: its engine cannot exist on that machine."""


@dataclass(frozen=True)
class Program:
    """An exported network: it runs, it is not edited. `files` are the bundle's contents by name, manifest excluded."""

    signature: Signature
    runtime: str
    precision: str
    files: Mapping[str, bytes]
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    parity: dict[str, float] = field(default_factory=dict[str, float])
    key: str = ""

    def with_key(self, key: str) -> "Program":
        """Return the same program under the key of the stage that made it."""
        return replace(self, key=key)


Artifact = Model | Program


class Predictor(Protocol):
    """`images -> outputs`, whatever computes them.

    Calling it takes uint8 images `(N, height, width, channels)` of the signature's size and returns float32 outputs:
    `(N, classes)` for classification, `(N, classes, height, width)` for segmentation.
    """

    @property
    def signature(self) -> Signature: ...

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]: ...
