"""How a network was trained: the speed, and the arithmetic that was chosen by measuring."""

from dataclasses import dataclass

from edgepress.core.artifact import Artifact
from edgepress.measure.base import Measure, MeasureContext, measures
from edgepress.measure.rows import Row


@measures.register("training")
@dataclass(frozen=True)
class Training(Measure):
    """`train_speed` in images a second, the median over epochs; its precision is that of the training.

    Taken from the stage's own notes, so it says how fast the training was when it ran. No training, no row.
    """

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return one row."""
        notes = ctx.notes
        if "images_per_second" not in notes:
            return []
        names = ("precision", "batch", "threads", "device")
        about = {name: notes[name] for name in names} | {"n": notes["epochs"], "split": "train"}
        speed = notes["images_per_second"]
        return [ctx.row(artifact, "train_speed", speed, "images/s", "higher", **about)]
