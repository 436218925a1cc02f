"""`<teacher>-<student>-<method>`: the literature's pairs on CIFAR-100, all methods in the same number of epochs.

240 epochs where a GPU is at hand, else 30; the teachers are those of `distill-teachers`. Weights and temperatures are
those of the papers; DKD's `beta` is chosen per pair as its authors do, ReviewKD's weight by the kind of pair. `teacher`
and `alone` are rows of the same kind; `default` is what `distill` does where no method is named, which is one of these.
`--parts` takes pairs, and `alone` or a method of a pair: two cores may share one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.base import Options
from benchmarks.distilling import done, epochs, over_seeds, prepared, score
from benchmarks.figures.distill_teachers import teacher as kept
from benchmarks.job import toward
from edgepress.core.artifact import Builder
from edgepress.measure.rows import Row
from edgepress.train.auto import CHOICES, Kind, kin
from edgepress.train.words import read_terms

PARTS = "pairs"
"""What `--parts` chooses among."""


class Set(NamedTuple):
    """What the methods' authors set by the pair: DKD's `beta`, and the learning rate."""

    beta: float
    lr: float = 0.05


PAIRS = {
    ("cifar_resnet56", "cifar_resnet20"): Set(2.0),
    ("wrn_40_2", "wrn_16_2"): Set(6.0),
    ("resnet32x4", "resnet8x4"): Set(8.0),
    ("vgg13", "vgg8"): Set(6.0),
    ("resnet50", "benchmarks.networks:mobilenet_v2_half"): Set(8.0, lr=0.01),
    ("cifar_resnet56", "benchmarks.networks:mobilenet_v2_half"): Set(2.0),
}
"""By teacher and student. The last is not of the literature: its teacher trains on a CPU."""

COMPARED = ("kd", "dkd", "dist", "kd-standardized", "review")
"""The methods of the pairs; the others are for smaller figures."""
WAYS = ("alone", *COMPARED)


REVIEW = {"same family": 1, "other family": 5}
"""The weight of ReviewKD by the kind of pair: its authors' lie in 0.6 to 1 and in 5 to 8."""


def methods(beta: float, kind: Kind) -> dict[str, list[Any]]:
    """Return the losses by the name that the rows carry."""
    review = {"review": {"weight": REVIEW[kind]}}
    return {
        "kd": [{"kd": {"weight": 0.9}}, {"supervised": {"weight": 0.1}}],
        "dkd": [{"dkd": {"beta": beta}}],
        "dist": ["dist"],
        "kd-standardized": [{"standardized": {"weight": 9}}, {"supervised": {"weight": 0.1}}],
        "mlkd-standardized": [
            {"standardized": {"weight": 9, "of": {"mlkd": {}}}},
            {"supervised": {"weight": 0.1}},
        ],
        "review": [review],
        "crd": [{"crd": {"weight": 0.8}}],
        "dist-review": ["dist", review],
        "dkd-review": [{"dkd": {"beta": beta}}, review],
    }


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    pairs = {_short(*pair): pair for pair in (list(PAIRS)[:1] if options.quick else PAIRS)}
    wanted = options.wanted([*pairs, *(f"{name}-{way}" for name in pairs for way in WAYS)])
    rows: list[Row] = []
    for name, pair in pairs.items():
        chosen = [way for way in WAYS if name in wanted or f"{name}-{way}" in wanted]
        rows += _pair(*pair, chosen, options) if chosen else []
    return rows


def default_method(teacher: str, student: str) -> str:
    """Return the name of the method that `distill` chooses for this pair by itself, on a hundred classes."""
    kind = kin(Builder(student), Builder(teacher))
    wanted, ways = read_terms(CHOICES[kind].losses), methods(PAIRS[teacher, student].beta, kind)
    return next(name for name in COMPARED if read_terms(ways[name]) == wanted)


def _pair(teacher: str, student: str, chosen: Sequence[str], options: Options) -> list[Row]:
    seeds = options.seeds[:1] if options.quick else options.seeds
    pair = _short(teacher, student)
    losses = methods(PAIRS[teacher, student].beta, kin(Builder(student), Builder(teacher)))
    found: dict[str, dict[int, Row]] = {}
    for seed in seeds:
        for way in chosen:
            taught: dict[str, Any] = {}
            if way in COMPARED:
                taught = {"teacher.weights": str(kept(teacher, options)), "student.losses": losses[way]}
            sets = {**_sets(pair, way, teacher, student, seed), **taught}
            last = "student" if taught else "alone"
            result = done(toward(prepared("distill-pair", options, sets), [last]), options)
            found.setdefault(way, {})[seed] = score(result.rows, last)
            if taught:
                found["teacher"] = {0: score(result.rows, "teacher")}
    default = default_method(teacher, student)
    if default in found:
        found["default"] = found[default]
    return [row for way, by_seed in found.items() for row in over_seeds(f"{pair}-{way}", by_seed, options)]


def _short(teacher: str, student: str) -> str:
    return "-".join(name.rpartition(":")[2].removeprefix("cifar_") for name in (teacher, student))


def _sets(pair: str, way: str, teacher: str, student: str, seed: int) -> dict[str, Any]:
    count = epochs(240, 30)
    return {
        "name": f"distill-{pair}-{way}-seed{seed}",
        "seed": seed,
        "teacher.model": teacher,
        "alone.model": student,
        "student.model": student,
        **{f"{stage}.epochs": count for stage in ("alone", "student")},
        **{f"{stage}.lr": PAIRS[teacher, student].lr for stage in ("alone", "student")},
        "student.views": epochs(24, 12),
    }
