"""How large: parameters, multiply-accumulates, bytes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepress.core.artifact import Artifact, Program
from edgepress.measure.base import Measure, MeasureContext, measures
from edgepress.measure.rows import Row

if TYPE_CHECKING:
    from torch import nn


@measures.register("size")
@dataclass(frozen=True)
class Size(Measure):
    """`bytes` of a program are those of its files (what is copied onto the device, manifest aside); of a model those of
    its state, each tensor once. `params` and `macs` (for one image) are counted on models."""

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return the rows `bytes` and, for a model, `params` and `macs`."""
        if isinstance(artifact, Program):
            size = sum(len(content) for content in artifact.files.values())
            return [ctx.row(artifact, "bytes", size, "bytes", "lower")]
        from edgepress.models.count import count_macs, count_params

        return [
            ctx.row(artifact, "params", count_params(artifact.module), "params", "lower"),
            ctx.row(artifact, "macs", count_macs(artifact.module, artifact.signature), "MACs", "lower", batch=1),
            ctx.row(artifact, "bytes", state_bytes(artifact.module), "bytes", "lower"),
        ]


def state_bytes(module: "nn.Module") -> int:
    """Return the bytes of the module's parameters and buffers; tensors that share memory count once."""
    seen = {(t.data_ptr(), t.numel(), t.dtype): t for t in module.state_dict().values() if t.numel()}
    return sum(t.numel() * t.element_size() for t in seen.values())
