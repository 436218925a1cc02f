"""How good: the task's scores over a whole split, through the file or module that would run."""

from dataclasses import dataclass
from typing import Literal

from edgepress.core.artifact import Artifact
from edgepress.measure.base import Measure, MeasureContext, batches, measures, predict, split_of
from edgepress.measure.rows import Row
from edgepress.tasks.base import tasks


@measures.register("quality")
@dataclass(frozen=True)
class Quality(Measure):
    """The scores of the task (`top1`, `miou` ...) in percent.

    On the test split they carry their own names; on another split its name comes first (`val_top1`), so that
    the two are never mistaken for one another. `images` limits the number of images; 0 means all.
    """

    split: Literal["val", "test"] = "test"
    batch: int = 250
    images: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.images < 0:
            raise ValueError("batch must be at least 1, images at least 0 (0 = all)")

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return one row per score."""
        meter = tasks.get(artifact.signature.task).meter(len(artifact.signature.labels))
        split, count = split_of(ctx.data, self.split), 0
        for images, targets in batches(
            split, ctx.data.input.at_once(self.batch), self.images, ctx.progress, f"{ctx.label}: {self.split}"
        ):
            meter.update(predict(ctx.predictor, images, ctx.label), targets)
            count += len(images)
        lead = "" if self.split == "test" else f"{self.split}_"
        return [
            ctx.row(artifact, lead + name, value, "%", "higher", n=count, split=self.split)
            for name, value in meter.result().items()
        ]
