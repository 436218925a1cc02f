"""How well the outlines of a segmentation lie."""

from dataclasses import dataclass
from typing import Literal

from edgepress.core.artifact import Artifact
from edgepress.measure.base import Measure, MeasureContext, batches, measures, predict, split_of
from edgepress.measure.rows import Row
from edgepress.tasks.boundary import BoundaryMeter


@measures.register("boundary")
@dataclass(frozen=True)
class Boundary(Measure):
    """`boundary_f`: the boundary F-score in percent, for segmentation. See `tasks.boundary`; a measure of its own,
    since it takes longer than all other scores together. `images` limits the number of images; 0 means all.
    """

    split: Literal["val", "test"] = "test"
    batch: int = 32
    images: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.images < 0:
            raise ValueError("batch must be at least 1, images at least 0 (0 = all)")

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return one row; none for one label per image."""
        if artifact.signature.task != "segmentation":
            return []
        meter, split, count = BoundaryMeter(len(artifact.signature.labels)), split_of(ctx.data, self.split), 0
        for images, targets in batches(
            split, ctx.data.input.at_once(self.batch), self.images, ctx.progress, f"{ctx.label}: outlines"
        ):
            meter.update(predict(ctx.predictor, images, ctx.label).argmax(axis=1), targets)
            count += len(images)
        lead = "" if self.split == "test" else f"{self.split}_"
        return [
            ctx.row(artifact, lead + name, value, "%", "higher", n=count, split=self.split)
            for name, value in meter.result().items()
        ]
