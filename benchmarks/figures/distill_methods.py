"""`resnet20-<student>-<method>`: one teacher, a student of its family and one of another, every way in equal epochs.

CIFAR-10; the teacher is the ResNet-20 that the public ResNet-56 taught (92.2 %). Eight epochs, one seed: what two cores
allow. The table says what the default of `distill` goes by; `val_top1` decides, `top1` of the test split is beside it.
"""

import json
from typing import Any

from benchmarks.accuracy import public_sets
from benchmarks.base import RECIPES, Options
from benchmarks.distilling import done, over_seeds, score
from benchmarks.figures.distill_pairs import methods
from benchmarks.job import recipe
from edgepress.measure.rows import Row

STUDENTS = {"resnet8": ("cifar_resnet8", 0.2), "light_cnn": ("light_cnn", 0.1)}
"""Model and learning rate."""

BETA = 2.0
LEFT_OUT = ("dkd-review",)


def ways() -> dict[str, list[Any]]:
    """Return the losses by name."""
    return {name: losses for name, losses in methods(BETA).items() if name not in LEFT_OUT}


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    rows: list[Row] = []
    path = RECIPES / "distill-methods.yaml"
    for student, (model, lr) in STUDENTS.items():
        for method, losses in ways().items():
            sets = [f"name=distill-{student}-{method}", f"student.losses={json.dumps(losses)}"]
            sets += [
                f"{stage}.{key}={value}"
                for stage in ("alone", "student")
                for key, value in (("model", model), ("lr", lr))
            ]
            sets += public_sets(path)
            found = done(recipe(path, sets, options.quick), options).rows
            labels = {"alone": "alone", "student": method} if method == "kd" else {"student": method}
            for label, name in labels.items():
                for metric, split in (("top1", "test"), ("val_top1", "val")):
                    rows += over_seeds(f"resnet20-{student}-{name}", {0: score(found, label, metric, split)}, options)
    return rows
