"""What the figures of the topic `segmentation` share: recipes on CamVid, scores over seeds, calls for latencies."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.base import RECIPES, Options
from benchmarks.distilling import score
from edgepress.core.artifact import Model, Program, Signature
from edgepress.core.errors import DataError
from edgepress.data.scenes import scene_spec
from edgepress.data.sets.camvid import LABELS, CamVid
from edgepress.measure.rows import Row
from edgepress.models.build import new_model
from edgepress.models.inputs import normalize
from edgepress.recipes.recipe import Recipe, read_recipe
from edgepress.recipes.runner import smoke
from edgepress.runtime.predictor import EnginePredictor

SIZE = (180, 240)
SCORES = ("miou", "pixel_accuracy")


def prepared(name: str, options: Options, sets: Mapping[str, Any]) -> Recipe:
    """Return the recipe `name` with `sets`; a trial is its smoke version on few, small images. Raises `DataError` where
    CamVid is missing."""
    if missing := CamVid().available():
        raise DataError(missing)
    recipe = read_recipe(RECIPES / f"{name}.yaml", [f"{key}={value}" for key, value in sets.items()])
    if options.quick:
        recipe = replace(smoke(recipe), source=CamVid(size=(60, 80), limit=16, limit_eval=8))
    return recipe


def over_seeds(artifact: str, metric: str, found: Mapping[int, Row], options: Options) -> list[Row]:
    """Return the mean of one score over seeds and, with two or more, its deviation."""
    values, first = [row.value for row in found.values()], next(iter(found.values()))
    seeds = ",".join(map(str, found))
    mean = replace(first, artifact=artifact, value=statistics.fmean(values), seeds=seeds, command=options.command)
    if len(values) < 2:
        return [mean]
    spread = replace(mean, metric=f"{metric}_std", value=statistics.stdev(values), unit="points", better="lower")
    return [mean, replace(spread, n=len(values))]


def rarest(rows: Sequence[Row], label: str) -> Row:
    """Return the mean IoU of the three classes of CamVid that its training masks hold least of."""
    names = [f"iou_{LABELS.index(one)}" for one in ("bicyclist", "pedestrian", "pole")]
    each = [score(rows, label, name) for name in names]
    return replace(each[0], metric="iou_rarest_three", value=statistics.fmean(row.value for row in each))


def untrained(name: str, arguments: dict[str, Any]) -> Model:
    """Return a network with its initial weights: neither bytes nor milliseconds need trained ones."""
    return new_model(name, Signature("segmentation", scene_spec(SIZE), LABELS), arguments, seed=0)


def in_torch(model: Model) -> Callable[[], object]:
    """Return a call of a network in PyTorch, FP32, on one image."""
    module = model.module.eval()
    images = normalize(torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8), model.signature.input)

    def call() -> object:
        with torch.inference_mode():
            return module(images)

    return call


def as_file(program: Program) -> Callable[[], object]:
    """Return a call of an exported network on one prepared image, one thread."""
    predictor = EnginePredictor(program, threads=1)
    array = np.random.default_rng(0).standard_normal((1, *program.signature.input.shape), np.float32)
    return lambda: predictor.run(array)
