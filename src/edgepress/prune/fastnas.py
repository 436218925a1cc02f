"""FastNAS, NVIDIA ModelOpt's search for the widths of a network, under the words of this house. Extra `fastnas`.

ModelOpt makes every width a choice, measures how much the score suffers by each, and searches for the widths that keep
it best within the budget. The weights are those of the network, the most important channels first.
"""

import contextlib
import copy
import dataclasses
import io
import random
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgepress.core.artifact import Model
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.cost.budget import Budget, ImpossibleBudgetError
from edgepress.models.inputs import normalize
from edgepress.models.predictor import TorchPredictor
from edgepress.models.structure import settle
from edgepress.tasks.base import tasks

BATCH = 64
KINDS = {"macs": "flops", "params": "params"}
"""What a budget may limit here, and ModelOpt's words for it; its "flops" are multiply-accumulate operations."""


def fastnas(
    model: Model,
    budget: Budget,
    multiple: int,
    calibration: NDArray[np.uint8],
    images: NDArray[np.uint8],
    targets: NDArray[np.int64],
    seed: int,
) -> tuple[Model, float]:
    """Return `model` with the widths that keep the score of `images` and `targets` best within `budget`, and that score
    in percent; `model` is untouched.

    Widths are multiples of `multiple`. The batch norms of every candidate are estimated on `calibration`; images are
    uint8 `(N, height, width, channels)`. Raises `MissingExtraError` without ModelOpt, `ImpossibleBudgetError` where the
    narrowest network is above the budget, `EdgepressError` where ModelOpt cannot take the network.
    """
    if model.precision != "fp32":
        raise EdgepressError(f"FastNAS needs an fp32 network, this one is {model.precision} already: search first")
    try:
        with _silent():
            import modelopt.torch.prune as modelopt  # pyright: ignore[reportMissingImports]
            import torchprofile  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtraError("a search of widths by FastNAS", "fastnas") from None
    spec = model.signature.input
    batches = [normalize(part, spec) for part in torch.from_numpy(calibration).permute(0, 3, 1, 2).split(BATCH)]

    def score(module: nn.Module) -> float:
        return _score(dataclasses.replace(model, module=module), images, targets)

    settings = modelopt.fastnas.FastNASConfig().model_dump()
    for rules in settings.values():
        rules["*"].update({name: multiple for name in rules["*"] if name.endswith("divisor")})
    with _seeded(seed), tempfile.TemporaryDirectory(prefix="edgepress-") as folder:
        search: dict[str, Any] = {
            "data_loader": batches,
            "max_iter_data_loader": len(batches),
            "collect_func": lambda batch: batch,
            "score_func": score,
            "checkpoint": str(Path(folder) / "search.pth"),
            "verbose": False,
        }
        try:
            with _silent():
                found, _ = modelopt.prune(
                    copy.deepcopy(model.module).cpu().eval(),
                    mode=[("fastnas", settings)],
                    constraints={KINDS[kind]: limit for kind, limit in budget.limits.items()},
                    dummy_input=torch.zeros(1, *spec.shape),
                    config=search,
                )
        except (ValueError, RuntimeError, AssertionError) as error:
            raise _explained(error) from error
    return settle(dataclasses.replace(model, module=_plain(found), key="")), score(found)


def _score(model: Model, images: NDArray[np.uint8], targets: NDArray[np.int64]) -> float:
    task = tasks.get(model.signature.task)
    meter = task.meter(len(model.signature.labels))
    meter.update(TorchPredictor(model, BATCH)(images), targets)
    return float(meter.result()[task.main])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep ModelOpt's tables, bars and warnings away from the user."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _plain(module: nn.Module) -> nn.Module:
    """Return `module` without what ModelOpt notes about it in attributes."""
    for part in module.modules():
        for name in [name for name in vars(part) if name.startswith("_modelopt")]:
            delattr(part, name)
    return module.eval()


def _explained(error: Exception) -> EdgepressError:
    text = str(error)
    if "satisf" in text:
        return ImpossibleBudgetError("FastNAS cannot meet this budget: its narrowest network is above it; ask for less")
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return EdgepressError(f"FastNAS cannot take this network: {line}")


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators that ModelOpt draws from for the block; afterwards they are as they were."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
