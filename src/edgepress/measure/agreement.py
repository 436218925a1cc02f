"""How often an artifact decides as the one it was made from, and as its teacher, whether or not they are right."""

from dataclasses import dataclass
from typing import Literal

from edgepress.core.artifact import Artifact, Predictor
from edgepress.measure.base import Measure, MeasureContext, batches, measures, predict, split_of
from edgepress.measure.rows import Row
from edgepress.tasks.base import tasks


@measures.register("agreement")
@dataclass(frozen=True)
class Agreement(Measure):
    """`agreement_parent` and `agreement_teacher`: the share of equal decisions in percent. No parent, no row."""

    split: Literal["val", "test"] = "test"
    batch: int = 250
    images: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.images < 0:
            raise ValueError("batch must be at least 1, images at least 0 (0 = all)")

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return one row per predictor to compare with."""
        others: dict[str, Predictor] = {}
        if ctx.parent is not None:
            others["parent"] = ctx.parent
        if ctx.teacher is not None:
            others["teacher"] = ctx.teacher
        if not others:
            return []
        task = tasks.get(artifact.signature.task)
        split, count = split_of(ctx.data, self.split), 0
        agreed = dict.fromkeys(others, 0.0)
        for images, _ in batches(
            split, ctx.data.input.at_once(self.batch), self.images, ctx.progress, f"{ctx.label}: agreement"
        ):
            outputs = predict(ctx.predictor, images, ctx.label)
            for name, other in others.items():
                share = task.agreement(outputs, predict(other, images, f"{name} of {ctx.label}"))
                agreed[name] += share * len(images)
            count += len(images)
        return [
            ctx.row(artifact, f"agreement_{name}", total / count, "%", "higher", n=count, split=self.split)
            for name, total in agreed.items()
        ]
