"""A whole network against what a chain of edits made of it, from one recipe: what the chain figures share.

The recipe names the network `whole`, its exported file `whole-fp32`, and the last file `small`. Both files run on ONNX
Runtime, and the whole network also in PyTorch, one image at a time on one thread, in turns of ten calls.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.accuracy import public_sets, value
from benchmarks.base import RECIPES, Options
from benchmarks.job import patiently, recipe, toward
from benchmarks.side_by_side import call, in_turns
from edgepress.core.artifact import Model, Program
from edgepress.measure.rows import Row
from edgepress.recipes.runner import Options as RunOptions
from edgepress.recipes.runner import Result
from edgepress.recipes.store import BUNDLE
from edgepress.runtime.bundle import read_bundle

WHOLE, SMALL = "whole-fp32", "small"


def run_recipe(
    options: Options,
    name: str,
    quick: Sequence[str],
    sets: Sequence[str] = (),
    only: Sequence[str] = (),
    untaught: bool = False,
) -> Result:
    """Return the result of the recipe `name` with `sets`, or of the stages `only` and what they need; it goes on where
    it was stopped.

    A trial is of a network so small that it takes a minute: `quick` is what it sets over the recipe. `untaught` are the
    networks of the recipe where each stage sees a few images once.
    """
    path = RECIPES / f"{name}.yaml"
    sets = [*public_sets(path), *sets, *(quick if options.quick else ())]
    wanted = recipe(path, sets, options.quick or untaught)
    wanted = toward(wanted, only) if only else wanted
    return patiently(wanted, options.work / "runs", RunOptions(command=options.command))


def chain_rows(
    options: Options,
    name: str,
    quick: Sequence[str],
    sets: Sequence[str] = (),
    called: str = "",
    untaught: bool = False,
) -> list[Row]:
    """Return the rows of the recipe `name`: `top1`, `bytes` and `params` of both, and of the small file `drop`,
    `ratio_bytes`, `ratio_params`, `latency`, `speedup` and `speedup_eager`; the score of every stage between.

    `called` is what the names of the rows begin with, where that is not the recipe's. `untaught`: see `run_recipe`.
    """
    result = run_recipe(options, name, quick, sets, untaught=untaught)
    programs = {key: read_bundle(result.shelves[key].folder / BUNDLE) for key in (WHOLE, SMALL)}
    whole = result.shelves["whole"].load()
    assert isinstance(whole, Model)
    calls: dict[str, Callable[[], object]] = {key: _call(program) for key, program in programs.items()}
    calls["eager"] = _eager(whole)
    times = in_turns(calls, 30 if options.quick else 300)
    name = called or name
    found = [replace(row, artifact=f"{name}-{row.artifact}", command=options.command) for row in result.rows]
    mine, program = f"{name}-{SMALL}", programs[SMALL]
    top1, size, params = (
        [value(found, f"{name}-{which}", metric) for which in pair]
        for metric, pair in (("top1", (WHOLE, SMALL)), ("bytes", (WHOLE, SMALL)), ("params", ("whole", "student")))
    )
    about = {"runtime": program.runtime, "precision": program.precision}
    timed = {**about, "n": len(times[SMALL]), "threads": 1, "batch": 1}
    ratios = {
        key: statistics.median(a / b for a, b in zip(times[other], times[SMALL], strict=True))
        for key, other in (("speedup", WHOLE), ("speedup_eager", "eager"))
    }
    return [
        *(row for row in found if row.metric in ("top1", "bytes", "params", "macs")),
        replace(top1[1], metric="drop", value=top1[0].value - top1[1].value, unit="points", better="lower"),
        replace(size[1], metric="ratio_bytes", value=size[0].value / size[1].value, unit="x", better="higher"),
        options.row(mine, "ratio_params", params[0].value / params[1].value, "x", "higher", **about),
        options.row(mine, "latency", statistics.median(times[SMALL]), "ms", "lower", **timed),
        *(options.row(mine, key, ratio, "x", "higher", **timed) for key, ratio in ratios.items()),
    ]


def _call(program: Program) -> Callable[[], object]:
    channels, height, width = program.signature.input.shape
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, channels), dtype=np.uint8)
    return call(program, image)


def _eager(model: Model) -> Callable[[], object]:
    import torch

    image = torch.randn(1, *model.signature.input.shape)

    def run() -> object:
        with torch.inference_mode():
            return model.module(image)

    return run
