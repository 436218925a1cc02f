"""The two pairs of the founding systems, T = 4 and alpha = 0.7, our default beside it, and the file that ships.

`resnet50-mobilenet_v3_small` on CIFAR-100 and `resnet152-resnet18` on CIFAR-10, 100 epochs, where a GPU is at hand.
Such teachers do not train on a CPU in time: there a ResNet-18 of half the width teaches for twelve epochs, in the
second pair one of a quarter, and the names of the rows say so. One seed. `whole` is the teacher, `student` the
default's; see `benchmarks.chains`. The files of the whole pairs are the figure `distill-founding-files`.
"""

import torch

from benchmarks.base import Options
from benchmarks.chains import chain_rows
from edgepress.measure.rows import Row

PARTS = "pairs"
"""What `--parts` chooses among."""

STUDENTS = ("alone", "kd", "student")
EPOCHS, VIEWS, HALF, QUARTER = 12, 6, 32, 16
"""On a CPU; ResNet-18 has 64 channels at its beginning."""
SHORT = [
    "whole.model=resnet18",
    f"whole.arguments={{width: {HALF}}}",
    *(f"{name}.epochs={EPOCHS}" for name in ("whole", *STUDENTS)),
    *(f"{name}.views={VIEWS}" for name in STUDENTS[1:]),
]

PAIRS = {
    "founding-mobilenet": (
        "resnet50-mobilenet_v3_small",
        "resnet18_half-mobilenet_v3_small",
        [*SHORT, "integer.epochs=3", f"integer.views={VIEWS}"],
    ),
    "founding-resnet": (
        "resnet152-resnet18",
        "resnet18_half-resnet18_quarter",
        [*SHORT, *(f"{name}.arguments={{width: {QUARTER}}}" for name in STUDENTS)],
    ),
}
"""By recipe: the names of the pair where there is a GPU and where there is none, and what is then set."""

QUICK = ("whole.arguments={width: 8}",)


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    rows: list[Row] = []
    for name in options.wanted(list(PAIRS)):
        full, shorter, sets = PAIRS[name]
        gpu = torch.cuda.is_available() and not options.quick
        rows += chain_rows(options, name, QUICK, () if gpu else sets, full if gpu else shorter)
    return rows
