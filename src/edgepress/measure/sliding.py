"""The scores of a segmentation network on images larger than its input, window by window."""

from dataclasses import dataclass, field
from typing import Any, Literal

from edgepress.core.artifact import Artifact
from edgepress.core.errors import ConfigError
from edgepress.data.load import load_data, read_source
from edgepress.measure.base import Measure, MeasureContext, batches, measures, split_of
from edgepress.measure.rows import Row
from edgepress.runtime.sliding import Sliding
from edgepress.tasks.base import tasks


@measures.register("sliding")
@dataclass(frozen=True)
class SlidingWindow(Measure):
    """`sliding_miou` and the other scores in percent, over windows of the network's input that overlap by `overlap`.

    `data` is the data set at its larger size, such as `{camvid: {size: [360, 480]}}`; without it the recipe's own,
    whose images are one window each. `images` limits the number of images; 0 means all.
    """

    data: dict[str, Any] = field(default_factory=dict[str, Any])
    overlap: float = 0.25
    split: Literal["val", "test"] = "test"
    images: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1 or self.images < 0:
            raise ValueError("overlap lies in [0, 1), images at least 0 (0 = all)")
        if self.data:
            read_source(self.data)

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return one row per score; none for one label per image."""
        if artifact.signature.task != "segmentation":
            return []
        data = load_data(self.data) if self.data else ctx.data
        if data.labels != artifact.signature.labels:
            raise ConfigError(f"measure 'sliding': the data set {data.name!r} has other classes than the network")
        sliding, count = Sliding(ctx.predictor, self.overlap), 0
        meter, split = tasks.get("segmentation").meter(len(data.labels)), split_of(data, self.split)
        for images, targets in batches(split, 4, self.images, ctx.progress, f"{ctx.label}: windows"):
            meter.update(sliding(images), targets)
            count += len(images)
        lead = "sliding_" if self.split == "test" else f"{self.split}_sliding_"
        return [
            ctx.row(artifact, lead + name, value, "%", "higher", n=count, split=self.split)
            for name, value in meter.result().items()
        ]
