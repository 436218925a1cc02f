"""The stage `export`: the one-way door from a network that is edited to a program that runs."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from edgepress.core.artifact import UNPROVEN, Artifact, Model
from edgepress.core.errors import MissingExtraError
from edgepress.core.stage import Context, Stage, stages

if TYPE_CHECKING:
    from edgepress.data.base import Data

Format = Literal[
    "onnx", "onnx-fp16", "openvino", "openvino-bf16", "openvino-fp16", "executorch", "litert", "ncnn", "ncnn-bf16",
    "tensorrt", "tensorrt-fp16", "coreml", "coreml-fp16", "pt2", "pt2-bf16",
]  # fmt: skip
"""The names in `export.formats`, which needs torch; a test holds the two together."""

WRITERS = {
    "openvino": "openvino",
    "executorch": "executorch",
    "litert": "litert_torch",
    "ncnn": "pnnx",
    "tensorrt": "tensorrt",
    "coreml": "coremltools",
}
"""By extra, which is what a format's name begins with: the package that writes it. What is not here needs none."""


@stages.register("export")
@dataclass(frozen=True)
class Export(Stage):
    """Write the network in the format `to`, and prove the file: on `parity` images of the validation split the runtime
    must compute what the network computes, or nothing is written. A file for an engine that cannot exist here (Core
    ML elsewhere than on Apple's systems) is written and said to be unproven."""

    gives: ClassVar[str] = "program"

    to: Format = "onnx"
    parity: int = 512

    version: ClassVar[int] = 3  # 1 rounded the half of a gate upwards in ONNX Runtime, 2 let layers share int8 codes

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        if self.parity < 1:
            return [f"parity: at least one image must be compared, better hundreds; got {self.parity}"]
        return []

    def dry_run(
        self, artifact: Artifact | None, references: Mapping[str, Artifact], data: "Data", seed: int
    ) -> Artifact | None:
        """Return None; raise `MissingExtraError` where what writes the format is not installed."""
        extra = self.to.partition("-")[0]
        if extra in WRITERS and importlib.util.find_spec(WRITERS[extra]) is None:
            raise MissingExtraError(f"the stage 'export' to {self.to!r}", extra)
        return None

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the program; raise `ParityError` where it does not compute what the network computes."""
        import numpy as np

        from edgepress.export.formats import formats
        from edgepress.export.parity import enough

        assert isinstance(artifact, Model)
        count = enough(artifact.signature, self.parity)
        order = np.random.default_rng(ctx.seed).permutation(len(ctx.data.val))[:count]
        samples, _ = ctx.data.val.read(np.sort(order))
        program = formats.get(self.to)(artifact, samples)
        if not program.parity:
            ctx.progress.say(f"parity is not proven: {program.provenance[UNPROVEN]}")
            return program
        agreement, difference = program.parity["agreement"], program.parity["max_difference"]
        ctx.progress.say(
            f"parity on {len(samples)} images: {agreement:.2f} % of the decisions agree, "
            f"largest difference {difference:.2g} of the outputs' range"
        )
        return program
