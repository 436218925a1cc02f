"""`distill-teachers`: the teachers of `distill-pairs`, taught CIFAR-100 once and kept.

What trains for an hour or a day need not be trained again for each method or on each machine: its weights are written
to `scratch/teachers/` in FP16, and a file that somebody copied to `benchmarks/teachers/` and committed goes before.
That is a step of its own, since remaking figures must not change it. The ResNet-56 goes on from its public weights for
CIFAR-10.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.accuracy import TEACHER, public_weights
from benchmarks.base import ROOT, Options
from benchmarks.distilling import done, epochs, prepared, score
from edgepress.core.artifact import Model
from edgepress.core.files import write_bytes
from edgepress.measure.rows import Row

PARTS = "networks"
"""What `--parts` chooses among."""

NETWORKS = ("cifar_resnet56", "wrn_40_2", "resnet32x4", "vgg13", "resnet50")
FOLDER = "teachers"


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet; return the `top1` of each network."""
    names = {name.removeprefix("cifar_"): name for name in NETWORKS[: 1 if options.quick else None]}
    return [_taught(names[short], options) for short in options.wanted(list(names))]


def teacher(name: str, options: Options) -> Path:
    """Return the file of the weights of `name`: the committed one, or else one in scratch, trained if need be."""
    committed = ROOT / "benchmarks" / FOLDER / _file(name)
    if committed.exists() and not options.quick:
        return committed
    made = options.work / FOLDER / _file(name)
    if not made.exists():
        _taught(name, options)
    return made


def _taught(name: str, options: Options) -> Row:
    from safetensors.torch import save

    short = name.removeprefix("cifar_")
    sets: dict[str, Any] = {"name": f"distill-teacher-{short}", "start.model": name, "teacher.epochs": epochs(240, 30)}
    if name == "cifar_resnet56":
        # Half the epochs on a CPU: all but the last layer have learned to see already.
        public = {"start.weights": str(public_weights(TEACHER)), "start.head": "new"}
        sets |= {**public, "teacher.epochs": epochs(240, 15)}
    result = done(prepared("distill-teacher", options, sets), options)
    model = result.shelves["teacher"].load()
    assert isinstance(model, Model)
    state = {k: v.half() if v.dtype == torch.float32 else v for k, v in model.module.state_dict().items()}
    write_bytes(options.work / FOLDER / _file(name), save(state))
    return replace(score(result.rows, "teacher"), artifact=f"{short}-teacher", command=options.command)


def _file(name: str) -> str:
    return f"{name.removeprefix('cifar_')}.safetensors"
