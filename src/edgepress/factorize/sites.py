"""Which layers of a network may be factorized, where they run, and why the others stay whole."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.artifact import Signature
from edgepress.factorize.config import FactorizeConfig
from edgepress.factorize.layers import Factored
from edgepress.factorize.pieces import Pair, Whole, read
from edgepress.models.difference import ties
from edgepress.models.hooks import hooked
from edgepress.models.paths import matched
from edgepress.models.predictor import MISFITS, evaluating

PARTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Site:
    """A layer that may come apart: `size` is the height and width of its input (the rows of a linear layer, and 1),
    `calls` how often it runs for one image, `ranks` what was set by hand."""

    path: str
    whole: Whole
    size: Pair
    calls: int
    ranks: tuple[int, ...] | None


def find_sites(module: nn.Module, signature: Signature, config: FactorizeConfig) -> tuple[list[Site], dict[str, str]]:
    """Return the sites of `module` in the order they run, and the layers that stay whole with their reasons.

    A layer that was factorized before counts as the dense one it computes. Raises `ConfigError` for globs that match no
    layer.
    """
    parts = _layers(module)
    wanted = matched(parts, config.layers, "factorize: layers") if config.layers else set(parts)
    protected = matched(parts, config.protect, "factorize: protect")
    ranks = {path: glob for glob in config.ranks for path in matched(parts, [glob], "factorize: ranks")}
    inputs = _run(module, signature, parts)
    tied = ties(module)
    shared = {name.rpartition(".")[0] for name in (*tied, *tied.values())}
    whole: dict[str, str] = {}
    sites: list[Site] = []
    for path, part in parts.items():
        reason = "not asked for" if path not in wanted else "protected" if path in protected else None
        reason = reason or _obstacle(part, config)
        if reason is None and path in shared:
            reason = "its weight is tied to another layer's"
        if reason is None and path not in inputs:
            reason = "it does not run by itself when the network does"
        if reason:
            whole[path] = reason
            continue
        size, calls = inputs[path]
        found = part.whole() if isinstance(part, Factored) else read(part)
        given = config.ranks[ranks[path]] if path in ranks else None
        sites.append(Site(path, found, size, calls, (given,) if isinstance(given, int) else given))
    order = list(inputs)
    whole |= _looked_into(module, signature, [site.path for site in sites])
    return sorted((site for site in sites if site.path not in whole), key=lambda site: order.index(site.path)), whole


def _looked_into(module: nn.Module, signature: Signature, paths: list[str]) -> dict[str, str]:
    """Return the layers of which the network asks more than to be called (`self.fc.in_features`), with that reason:
    a chain of factors has no such attribute."""
    if not paths or _runs_hidden(module, signature, paths) is None:
        return {}
    found = {path: _runs_hidden(module, signature, [path]) for path in paths}
    return {path: f"the network looks into it ({reason})" for path, reason in found.items() if reason is not None}


def _runs_hidden(module: nn.Module, signature: Signature, paths: list[str]) -> str | None:
    """Return why the network does not run where these layers can only be called; None where it does."""
    trial = copy.deepcopy(module)
    for path in paths:
        trial.set_submodule(path, nn.Sequential(trial.get_submodule(path)))
    state = next(module.parameters())
    image = torch.zeros(1, *signature.input.shape, dtype=state.dtype, device=state.device)
    try:
        with evaluating(trial), torch.no_grad():
            trial(image)
    except MISFITS as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return None


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with a kernel, and earlier decompositions as one layer each; shared modules by each path."""
    found: dict[str, nn.Module] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        inside = any(path.startswith(f"{outer}.") for outer, o in found.items() if isinstance(o, Factored))
        if path and not inside and isinstance(part, (*PARTS, Factored)):
            found[path] = part
    return found


def _obstacle(part: Any, config: FactorizeConfig) -> str | None:
    """Return why a layer of this kind stays whole, or None."""
    kind = type(part)
    if kind is Factored:
        return None
    if kind not in (nn.Linear, nn.Conv2d):
        return f"a {kind.__name__} is not factorized"
    if kind is nn.Linear:
        return None if config.linear == "svd" else "linear: none"
    if part.groups > 1:
        depthwise = part.groups == part.in_channels
        return "depthwise: it mixes no channels" if depthwise else f"{part.groups} groups: thin already"
    if part.kernel_size != (1, 1) and config.conv == "none":
        return "conv: none"
    if part.padding == "same" and any(k % 2 == 0 for k in part.kernel_size):
        return "padding 'same' of an even kernel is uneven"
    return None


def _run(module: nn.Module, signature: Signature, parts: dict[str, nn.Module]) -> dict[str, tuple[Pair, int]]:
    """Return the size of the input and the number of calls, by path in the order layers run first."""
    found: dict[str, tuple[Pair, int]] = {}
    paths: dict[nn.Module, str] = {}
    for path, part in parts.items():
        paths.setdefault(part, path)

    def look(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        path, given = paths[part], inputs[0]
        linear = isinstance(part, nn.Linear) or (isinstance(part, Factored) and isinstance(part[0], nn.Linear))
        size = (given.numel() // given.shape[-1], 1) if linear else (int(given.shape[-2]), int(given.shape[-1]))
        found[path] = (size, found[path][1] + 1 if path in found else 1)

    state = next(module.parameters(), torch.zeros(()))
    image = torch.zeros(1, *signature.input.shape, dtype=state.dtype, device=state.device)
    with hooked(paths, look), evaluating(module), torch.no_grad():
        module(image)
    return found
