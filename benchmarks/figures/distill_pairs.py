"""`<teacher>-<student>-<method>`: the literature's pairs on CIFAR-100, all methods in the same number of epochs.

240 epochs where a GPU is at hand, else 30. Weights and temperatures are those of the papers; DKD's `beta` is chosen per
pair as its authors do. `teacher` and `alone` are rows of the same kind.
"""

from typing import Any

from benchmarks.base import Options
from benchmarks.distilling import done, epochs, over_seeds, prepared, score
from edgepress.measure.rows import Row

PAIRS = {
    ("cifar_resnet56", "cifar_resnet20"): 2.0,
    ("wrn_40_2", "wrn_16_2"): 6.0,
    ("resnet32x4", "resnet8x4"): 8.0,
    ("vgg13", "vgg8"): 6.0,
    ("resnet50", "mobilenet_v2"): 8.0,
}
"""Teacher and student, and the `beta` of DKD."""


def methods(beta: float) -> dict[str, list[Any]]:
    """Return the losses by the name that the rows carry."""
    return {
        "kd": [{"kd": {"weight": 0.9}}, {"supervised": {"weight": 0.1}}],
        "dkd": [{"dkd": {"beta": beta}}],
        "dist": ["dist"],
        "kd-standardized": [{"standardized": {"weight": 9}}, {"supervised": {"weight": 0.1}}],
        "mlkd-standardized": [
            {"standardized": {"weight": 9, "of": {"mlkd": {}}}},
            {"supervised": {"weight": 0.1}},
        ],
        "review": [{"review": {"weight": 1}}],
        "dist-review": ["dist", {"review": {"weight": 1}}],
        "dkd-review": [{"dkd": {"beta": beta}}, {"review": {"weight": 1}}],
    }


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    pairs = dict(list(PAIRS.items())[:1]) if options.quick else PAIRS
    rows: list[Row] = []
    for (teacher, student), beta in pairs.items():
        rows += _pair(teacher, student, methods(beta), options)
    return rows


def _pair(teacher: str, student: str, losses: dict[str, list[Any]], options: Options) -> list[Row]:
    seeds = options.seeds[:1] if options.quick else options.seeds
    pair = f"{teacher.removeprefix('cifar_')}-{student.removeprefix('cifar_')}"
    found: dict[str, dict[int, Row]] = {}
    for seed in seeds:
        for method, terms in losses.items():
            result = done(
                prepared("distill-pair", options, _sets(pair, method, teacher, student, terms, seed)), options
            )
            found.setdefault(method, {})[seed] = score(result.rows, "student")
            found.setdefault("alone", {})[seed] = score(result.rows, "alone")
            found["teacher"] = {0: score(result.rows, "teacher")}
    return [row for method, by_seed in found.items() for row in over_seeds(f"{pair}-{method}", by_seed, options)]


def _sets(pair: str, method: str, teacher: str, student: str, terms: list[Any], seed: int) -> dict[str, Any]:
    count = epochs(240, 30)
    return {
        "name": f"distill-{pair}-{method}-seed{seed}",
        "seed": seed,
        "teacher.model": teacher,
        "alone.model": student,
        "student.model": student,
        "student.losses": terms,
        **{f"{stage}.epochs": count for stage in ("teacher", "alone", "student")},
    }
