"""What a decomposition costs on real inputs, and the last factor by least squares on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.factorize.layers import Factored
from edgepress.models.hooks import hooked
from edgepress.models.predictor import evaluating

BATCH = 32
RIDGE = 1e-3
"""Pull towards the decomposition's own numbers, as a share of the mean square of what the last factor reads."""
MOST_COLUMNS = 4096
"""Numbers the last factor reads for one output; above it the moments would not fit into memory."""


@dataclass
class _Moments:
    inner: Tensor
    cross: Tensor


def refit(module: nn.Module, factored: Mapping[str, Factored], images: Tensor) -> None:
    """Set the last factor of each of `factored` to what comes closest to the outputs of the layer in `module`.

    `module` is the network before the decomposition, with the layers at the same paths; `images` are normalized. Every
    layer is fitted to what it was given in the whole network: one pass for all. Layers whose padding is not zeros stay
    as they are.
    """
    ready = {module.get_submodule(path): chain for path, chain in factored.items() if _can(chain[-1])}
    found: dict[nn.Module, _Moments] = {}

    def look(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        chain = ready[part]
        front: Any = inputs[0]
        for member in list(chain)[:-1]:
            front = member(front)
        columns, target = _columns(chain[-1], front), _columns_of(output, chain[-1])
        inner, cross = columns.T @ columns, columns.T @ target
        if part in found:
            found[part].inner += inner
            found[part].cross += cross
        else:
            found[part] = _Moments(inner.double(), cross.double())

    with hooked(ready, look), evaluating(module), torch.no_grad():
        for batch in images.split(BATCH):
            module(batch)
        for part, moments in found.items():
            _solve(ready[part][-1], moments)


def output_errors(module: nn.Module, factored: Mapping[str, Factored], images: Tensor) -> dict[str, float]:
    """Return by path the relative error of a layer's outputs, `||y - y'|| / ||y||`, on what `module` gives it."""
    ready = {module.get_submodule(path): (path, chain) for path, chain in factored.items()}
    sums: dict[str, list[float]] = {path: [0.0, 0.0] for path in factored}

    def look(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        path, chain = ready[part]
        sums[path][0] += float((chain(inputs[0]) - output).square().sum())
        sums[path][1] += float(output.square().sum())

    with hooked(ready, look), evaluating(module), torch.no_grad():
        for batch in images.split(BATCH):
            module(batch)
    return {path: (off / max(total, 1e-30)) ** 0.5 for path, (off, total) in sums.items()}


def _can(last: Any) -> bool:
    if isinstance(last, nn.Linear):
        return last.in_features < MOST_COLUMNS
    plain = last.padding_mode == "zeros" and last.groups == 1 and not isinstance(last.padding, str)
    return plain and last.weight[0].numel() < MOST_COLUMNS


def _columns(last: Any, values: Tensor) -> Tensor:
    """Return what `last` multiplies with its weight, `(places, numbers)`, and ones for its bias."""
    if isinstance(last, nn.Linear):
        found = values.reshape(-1, values.shape[-1])
    else:
        found = F.unfold(values, last.kernel_size, last.dilation, last.padding, last.stride)
        found = found.transpose(1, 2).reshape(-1, found.shape[1])
    return found if last.bias is None else torch.cat([found, torch.ones_like(found[:, :1])], 1)


def _columns_of(output: Tensor, last: nn.Module) -> Tensor:
    if isinstance(last, nn.Linear):
        return output.reshape(-1, output.shape[-1])
    return output.flatten(2).transpose(1, 2).reshape(-1, output.shape[1])


def _solve(last: Any, moments: _Moments) -> None:
    now = last.weight.flatten(1).T
    if last.bias is not None:
        now = torch.cat([now, last.bias[None]])
    now = now.double()
    pull = RIDGE * float(moments.inner.diagonal().mean())
    eye = torch.eye(len(moments.inner), dtype=torch.float64, device=now.device)
    found = torch.linalg.solve(moments.inner + max(pull, 1e-12) * eye, moments.cross + pull * now)
    if not found.isfinite().all():
        return
    count = last.weight[0].numel()
    last.weight.copy_(found[:count].T.reshape(last.weight.shape))
    if last.bias is not None:
        last.bias.copy_(found[count])
