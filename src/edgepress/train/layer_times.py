"""Where the time of a network goes, layer by layer, in PyTorch; how much its answers depend on each; what to cut first.

A layer is worth cutting where it takes much time and the answers hardly depend on it. How much they do is asked
directly: the weakest quarter of its filters is silenced, and the change of the outputs is measured.
"""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

QUARTER = 0.25
SECONDS = 2.0
"""How long the layers are timed."""
PATIENCE = 20.0
"""Seconds that the question of what depends on each layer may take; fewer images are asked where it would take more."""
WORTH = 2.0
"""Percent of the time that a layer must take to be worth cutting."""

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class LayerTime:
    """One module without children, in the order of the first call.

    `ms` of a call of the network, `share` of the whole call in percent; `felt` is the relative change of the outputs
    (2-norm) without its weakest quarter of filters, None where it has none or gives the outputs itself. `number` counts
    the layers with weights to multiply with, as the files of engines do, else None.
    """

    path: str
    kind: str
    ms: float
    share: float
    parameters: int
    number: int | None = None
    felt: float | None = None


def time_layers(
    module: nn.Module, run: Callable[[], object], seconds: float = SECONDS
) -> tuple[list[LayerTime], float]:
    """Return the layers that `run`, one call of the network, comes through, and the milliseconds of a call.

    Each is given the median over the calls made in `seconds`; what no module does (additions, functions) is the
    difference between the whole and their sum.
    """
    leaves = {path: part for path, part in module.named_modules() if path and not any(part.children())}
    spent: dict[str, float] = {}
    runs: dict[str, list[float]] = defaultdict(list)
    whole: list[float] = []
    with _timed(leaves, spent), torch.inference_mode():
        run()  # the first call is slower: kernels are chosen and memory is found
        order = list(spent)
        end = time.perf_counter() + seconds
        while len(whole) < 3 or time.perf_counter() < end:
            spent.clear()
            begin = time.perf_counter()
            run()
            whole.append(time.perf_counter() - begin)
            for path, taken in spent.items():
                runs[path].append(taken)
    total = _median(whole)
    numbers = iter(range(len(order)))
    layers = [
        LayerTime(
            path,
            type(leaves[path]).__name__,
            _median(runs[path]) * 1e3,
            100 * _median(runs[path]) / total,
            sum(p.numel() for p in leaves[path].parameters()),
            next(numbers) if isinstance(leaves[path], WEIGHTED) else None,
        )
        for path in order
    ]
    return layers, total * 1e3


@contextlib.contextmanager
def _timed(leaves: dict[str, nn.Module], spent: dict[str, float]) -> Iterator[None]:
    begun: dict[str, float] = {}

    def before(path: str) -> Callable[..., None]:
        def hook(part: nn.Module, inputs: object) -> None:
            begun[path] = time.perf_counter()

        return hook

    def after(path: str) -> Callable[..., None]:
        def hook(part: nn.Module, inputs: object, output: object) -> None:
            spent[path] = spent.get(path, 0.0) + time.perf_counter() - begun[path]

        return hook

    hooks = [part.register_forward_pre_hook(before(path)) for path, part in leaves.items()]
    hooks += [part.register_forward_hook(after(path)) for path, part in leaves.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def felt_without(module: nn.Module, layers: Sequence[LayerTime], run: Callable[[int], Tensor]) -> dict[str, float]:
    """Return of each layer with weights, the last one excepted, how far the outputs change without its weakest quarter
    of filters. `run` answers the given number of images; the weights are put back.
    """
    parts: dict[str, Any] = dict(module.named_modules())
    weighted = [layer.path for layer in layers if layer.number is not None][:-1]
    asked = [path for path in weighted if _filters(parts[path]) >= 4]
    begin = time.perf_counter()
    run(2)
    each = (time.perf_counter() - begin) / 2
    images = int(min(32, max(2, PATIENCE / max(len(asked) * each, 1e-9))))
    found: dict[str, float] = {}
    with torch.inference_mode():
        before = run(images).float()
        for path in asked:
            with _without_weakest(parts[path]):
                after = run(images).float()
            found[path] = float((after - before).norm() / before.norm().clamp_min(1e-12))
    return found


def _filters(part: Any) -> int:
    return part.out_channels if hasattr(part, "out_channels") else part.out_features


@contextlib.contextmanager
def _without_weakest(part: Any) -> Iterator[None]:
    """Silence the weakest quarter of the filters of a layer for the block, bias included."""
    axis = 1 if isinstance(part, nn.ConvTranspose2d) else 0
    with torch.no_grad():
        sizes = part.weight.detach().float().transpose(0, axis).flatten(1).norm(dim=1)
        weakest = sizes.argsort()[: max(1, int(len(sizes) * QUARTER))]
        kept = [(value, value.detach().clone()) for value in part.parameters(recurse=False)]
        try:
            part.weight.index_fill_(axis, weakest, 0.0)
            if part.bias is not None:
                part.bias.index_fill_(0, weakest, 0.0)
            yield
        finally:
            for value, before in kept:
                value.copy_(before)


def cut_first(layers: Sequence[LayerTime], shares: Mapping[str, float], most: int = 3) -> list[LayerTime]:
    """Return the layers that take the most time for what the outputs lose without them; where that is not known, for
    their parameters. `shares` of the time in percent by path; those of less than `WORTH` are left alone."""
    worth = [layer for layer in layers if layer.number is not None and shares.get(layer.path, 0.0) >= WORTH]
    known = [layer for layer in worth if layer.felt is not None]
    if known:
        return sorted(known, key=lambda layer: shares[layer.path] / max(layer.felt or 0.0, 1e-6), reverse=True)[:most]
    return sorted(worth, key=lambda layer: shares[layer.path] / max(layer.parameters, 1), reverse=True)[:most]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
