"""What the figures of the topic `distill` share: recipes run in this process, with their losses set."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.base import RECIPES, Options
from benchmarks.job import patiently
from edgepress.core.errors import DataError
from edgepress.data.sets.cifar import Cifar10, Cifar100
from edgepress.measure.rows import Row
from edgepress.recipes.recipe import Recipe, read_recipe
from edgepress.recipes.runner import Options as RunOptions
from edgepress.recipes.runner import Result, smoke


def epochs(long: int, short: int) -> int:
    """Return the epochs of a training: `long` where a GPU is at hand, `short` on a CPU."""
    return long if torch.cuda.is_available() else short


def prepared(name: str, options: Options, sets: Mapping[str, Any]) -> Recipe:
    """Return the recipe `name` with `sets` (`student.epochs` and the like); a trial is its smoke version, on CIFAR-10
    where CIFAR-100 is not at hand. Raises `DataError` where the data is missing."""
    missing = Cifar100().available()
    if missing and not (options.quick and Cifar10().available() is None):
        raise DataError(missing)
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in sets.items()]
    recipe = read_recipe(RECIPES / f"{name}.yaml", words)
    if not options.quick:
        return recipe
    return smoke(replace(recipe, source=Cifar10() if missing else recipe.source))


def done(recipe: Recipe, options: Options) -> Result:
    """Return the result of `recipe`: what an earlier call has done is taken as it is."""
    return patiently(recipe, options.work / "runs", RunOptions(command=options.command))


def over_seeds(artifact: str, found: Mapping[int, Row], options: Options) -> list[Row]:
    """Return the mean of one score over seeds and, with two or more, its deviation."""
    values, first = [row.value for row in found.values()], next(iter(found.values()))
    about = replace(first, artifact=artifact, seeds=",".join(map(str, found)), command=options.command)
    mean = replace(about, value=statistics.fmean(values))
    if len(values) < 2:
        return [mean]
    spread = replace(about, metric=f"{first.metric}_std", value=statistics.stdev(values), unit="points", better="lower")
    return [mean, replace(spread, n=len(values))]


def score(rows: Sequence[Row], label: str, metric: str = "top1", split: str = "test") -> Row:
    """Return the row of a stage; raise `DataError` where it was not measured."""
    for row in rows:
        if (row.artifact, row.metric, row.split) == (label, metric, split):
            return row
    raise DataError(f"{label}: no {metric!r} was measured")
