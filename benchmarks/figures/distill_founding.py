"""The two pairs of the founding systems, T = 4 and alpha = 0.7, our default beside it, and the file that ships.

`resnet50-mobilenet_v3_small` on CIFAR-100 and `resnet152-resnet18` on CIFAR-10, 100 epochs, where a GPU is at hand.
Such teachers do not train on a CPU in time: there a ResNet-18 teaches, in the second pair one of half its width, and
the names of the rows say so. One seed. `whole` is the teacher, `student` the default's; see `benchmarks.chains`.
"""

import torch

from benchmarks.base import Options
from benchmarks.chains import chain_rows
from edgepress.measure.rows import Row

PARTS = "pairs"
"""What `--parts` chooses among."""

STUDENTS = ("alone", "kd", "student")


def _shorter(whole: int, students: int, views: int) -> list[str]:
    return [
        "whole.model=resnet18",
        f"whole.epochs={whole}",
        *(f"{name}.epochs={students}" for name in STUDENTS),
        *(f"{name}.views={views}" for name in STUDENTS[1:]),
    ]


PAIRS = {
    "founding-mobilenet": (
        "resnet50-mobilenet_v3_small",
        "resnet18-mobilenet_v3_small",
        [*_shorter(10, 12, 6), "integer.epochs=3", "integer.views=6"],
    ),
    "founding-resnet": (
        "resnet152-resnet18",
        "resnet18-resnet18_half",
        [*_shorter(10, 10, 5), *(f"{name}.arguments={{width: 32}}" for name in STUDENTS)],
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
