"""`resnet20-<student>-<method>`: one teacher, a student of its family and one of another, every way in equal epochs.

CIFAR-100, a teacher of twelve epochs, students of eight, one seed: what two cores allow. The table says what the
default of `distill` goes by; `val_top1` decides, `top1` of the test split is beside it. `--parts` takes students, and
methods of a student (`light_cnn-kd`).
"""

from typing import Any

from benchmarks.base import Options
from benchmarks.distilling import done, over_seeds, prepared, score
from benchmarks.figures.distill_pairs import methods
from benchmarks.job import toward
from edgepress.measure.rows import Row
from edgepress.train.auto import Kind

PARTS = "students"
"""What `--parts` chooses among."""

STUDENTS: dict[str, tuple[str, float, Kind]] = {
    "resnet8": ("cifar_resnet8", 0.2, "same family"),
    "light_cnn": ("light_cnn", 0.1, "other family"),
}
"""Model, learning rate and kind of pair."""

BETA = 2.0
LEFT_OUT = ("dkd-review",)


def ways(kind: Kind) -> dict[str, list[Any]]:
    """Return the losses by name."""
    return {name: losses for name, losses in methods(BETA, kind).items() if name not in LEFT_OUT}


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    rows: list[Row] = []
    wanted = options.wanted(
        [*STUDENTS, *(f"{name}-{method}" for name, (*_, kind) in STUDENTS.items() for method in ways(kind))]
    )
    for student, (model, lr, kind) in STUDENTS.items():
        for method, losses in ways(kind).items():
            if student not in wanted and f"{student}-{method}" not in wanted:
                continue
            sets: dict[str, Any] = {"name": f"distill-{student}-{method}", "student.losses": losses}
            for stage in ("alone", "student"):
                sets |= {f"{stage}.model": model, f"{stage}.lr": lr}
            once = ("teacher", "alone") if method == "kd" else ()
            recipe = toward(prepared("distill-methods", options, sets), [*once, "student"])
            found = done(recipe, options).rows
            names = {name: f"{student}-{name}" for name in once}
            for label, name in {**names, "student": f"{student}-{method}"}.items():
                for metric, split in (("top1", "test"), ("val_top1", "val")):
                    rows += over_seeds(f"resnet20-{name}", {0: score(found, label, metric, split)}, options)
    return rows
