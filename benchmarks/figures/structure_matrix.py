"""`structure-matrix`: every family pruned, factorized, and both: saved, loaded bit for bit, exported with parity.

Registered networks as their tiny twins (of those that differ in depth only, one), the families that are not registered
as timm and torchvision have them, on small images; `tests/prune/test_families.py` prunes the full networks. Weights are
random with batch norms that are not those of a fresh network, so that a wrong cut shows. A cell passes where the edit
took parameters away, the network came back from disk with the same outputs to the last bit, and the exported file
agrees with it. What cannot be edited anywhere in a network counts as an exception, with its reason.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base import Options
from edgepress.core.artifact import Model, Signature
from edgepress.core.errors import EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.measure.rows import Row

FOREIGN: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("torchvision:alexnet", 64, {}),
    ("timm:convnext_atto", 64, {"depths": [1, 1, 2, 1], "dims": [16, 32, 48, 64]}),
    ("timm:regnetx_002", 64, {}),
    ("timm:regnety_002", 64, {}),
    ("timm:ghostnet_050", 64, {}),
    ("timm:vit_tiny_patch16_224", 32, {"img_size": 32, "patch_size": 8, "depth": 2}),
    # NASNet-Mobile.
    ("timm:nasnetalarge", 64, {"stem_size": 32, "channel_multiplier": 2, "num_features": 1056}),
)
FIRST = ("vgg11", "vgg16", "mobilenet_v2", "efficientnet_b0", "resnet18", "densenet_bc100")
DEEPER = ("cifar_resnet32", "cifar_resnet44", "cifar_resnet56", "cifar_resnet110", "resnet34", "resnet152", "vgg13",
          "wrn_40_2", "resnet32x4")  # fmt: skip
"""More of the same blocks as another network of the matrix."""
EDITS = ("prune", "factorize", "prune+factorize")
QUICK = ("timm:vit_tiny_patch16_224", "mobilenet_v2")


def measure(options: Options) -> list[Row]:
    """Return how many cells passed, in all and by edit, and print the exceptions with their reasons."""
    from edgepress.models.base import models, twins

    names = [*FIRST, *(name for name in models if name not in (*FIRST, *DEEPER))]
    own = {name: (name, twins.get(name).size, dict(twins.get(name).arguments)) for name in names}
    first, rest = [own[name] for name in FIRST], [own[name] for name in names if name not in FIRST]
    cases = [case for case in (*first, *FOREIGN, *rest) if not options.quick or case[0] in QUICK]
    passed = dict.fromkeys(EDITS, 0)
    exceptions: list[str] = []
    for name, size, arguments in cases:
        model, pixels = network(name, size, arguments)
        made: dict[str, Model] = {"": model}
        for edit in EDITS:
            reason = cell(made, pixels, edit)
            passed[edit] += reason is None
            print(f"  {name:32} {edit:16} {'passed' if reason is None else reason}", flush=True)
            if reason is not None:
                exceptions.append(f"{name} x {edit}: {reason}")
    print("\n".join(["exceptions:", *(exceptions or ["none"])]), flush=True)
    count, total = len(cases), len(cases) * len(EDITS)
    rows = [
        options.row(f"structure-matrix-{edit}", "passed", value, "networks", "higher", n=count, runtime="onnxruntime")
        for edit, value in passed.items()
    ]
    about = {"n": total, "runtime": "onnxruntime"}
    return [
        *rows,
        options.row("structure-matrix", "passed", sum(passed.values()), "cells", "higher", **about),
        options.row("structure-matrix", "exceptions", len(exceptions), "cells", "lower", **about),
    ]


def network(name: str, size: int, arguments: dict[str, Any]) -> tuple[Model, np.ndarray]:
    """Return a network with lively batch norms, and images for it."""
    import torch
    from torch import nn

    from edgepress.models.base import twins
    from edgepress.models.build import new_model

    task = twins.get(name).task if name in twins else "classification"
    signature = Signature("classification", InputSpec(size, size), tuple("abcdefghij"))
    signature = replace(signature, task="segmentation") if task == "segmentation" else signature
    model = new_model(name, signature, arguments, seed=0)
    generator = torch.Generator().manual_seed(1)
    for part in model.module.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            part.running_mean.uniform_(-0.2, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    pixels = np.random.default_rng(0).integers(0, 256, (16, size, size, 3), dtype=np.uint8)
    return model, pixels


def cell(made: dict[str, Model], pixels: np.ndarray, edit: str) -> str | None:
    """Return None where a network comes through edit, disk and export, else what went wrong.

    `made` holds the network under "", and what was made of it so far by edit.
    """
    from edgepress.export.onnx import export_onnx
    from edgepress.models.count import count_params
    from edgepress.models.predictor import TorchPredictor
    from edgepress.models.structure import load_model, save_model

    try:
        before, _, last = edit.rpartition("+")
        if before not in made:
            return f"{before} failed"
        edited = made[edit] = STEPS[last](made[before], pixels)
        if count_params(edited.module) >= count_params(made[before].module):
            return "no parameter went"
        with tempfile.TemporaryDirectory() as folder:
            save_model(edited, Path(folder))
            again = load_model(Path(folder))
        if not np.array_equal(TorchPredictor(again)(pixels), TorchPredictor(edited)(pixels)):
            return "it did not come back bit for bit"
        export_onnx(again, pixels)
    except (EdgepressError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"
    return None


def _prune(model: Model, pixels: np.ndarray) -> Model:
    from edgepress.cost.budget import Budget
    from edgepress.models.count import count_params
    from edgepress.prune.config import PruneConfig
    from edgepress.prune.prune import prune

    limit = int(count_params(model.module) * 0.75)
    return prune(model, Budget(params=limit), PruneConfig(score="l2", minimum=2))[0]


def _factorize(model: Model, pixels: np.ndarray) -> Model:
    from edgepress.cost.budget import Budget
    from edgepress.factorize.factorize import factorize
    from edgepress.models.count import count_params

    limit = int(count_params(model.module) * 0.85)
    return factorize(model, budget=Budget(params=limit), images=pixels)[0]


STEPS: dict[str, Callable[[Model, np.ndarray], Model]] = {"prune": _prune, "factorize": _factorize}
