"""Unstructured pruning: zeros in place of the weights of least magnitude, single, 2 of 4, or in blocks."""

import copy
import dataclasses
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.core.artifact import Model
from edgepress.core.errors import ConfigError, EdgepressError
from edgepress.cost.shapes import LAYERS
from edgepress.prune.config import SparsifyConfig
from edgepress.prune.graph import match_layers


@dataclass(frozen=True)
class SparseReport:
    """What thinning out did. The bytes are those of all weights after zlib: what a download or a flash image takes."""

    weights: int
    zeros: int
    bytes_before: int
    bytes_after: int


def sparsify(model: Model, config: SparsifyConfig | None = None) -> tuple[Model, SparseReport]:
    """Return `model` with zeros for its smallest weights, and what it gains; `model` is untouched.

    The zeros are in the weights: no mask stays behind, and further training fills them again, unless its stage says
    `keep_zeros`.
    """
    if model.precision != "fp32":
        raise EdgepressError(f"sparsify needs an fp32 network, this one is {model.precision} already")
    module = copy.deepcopy(model.module)
    before = compressed_bytes(module)
    masks = sparsify_(module, config)
    zeros, total = sum(int((~m).sum()) for m in masks.values()), sum(m.numel() for m in masks.values())
    report = SparseReport(total, zeros, before, compressed_bytes(module))
    return dataclasses.replace(model, module=module, key=""), report


def sparsify_(module: nn.Module, config: SparsifyConfig | None = None) -> dict[str, Tensor]:
    """Zero weights of `module` in place; return by path of the layer which stay (True), in the shape of its weight.

    With the pattern "single" all layers are ranked together (Han et al., 2015). "2:4" keeps the two largest of every
    four weights along the inputs (Mishra et al., 2021); a layer whose inputs are no multiple of 4 is left alone.
    "block" ranks rectangles of `block` outputs by inputs by their mean square.

    Raises `ConfigError` for settings, `EdgepressError` where there is nothing to thin out or weights are not finite.
    """
    config = config or SparsifyConfig()
    if config.problems():
        raise ConfigError([f"sparsify: {problem}" for problem in config.problems()])
    skipped = match_layers(module, config.protect)
    layers = {path: weight for path, weight in _layers(module) if path not in skipped}
    if config.pattern == "2:4":
        layers = {path: w for path, w in layers.items() if w.shape[1] % 4 == 0}
    if not layers:
        raise EdgepressError("sparsify: there is no layer whose weights may become zero")
    bad = [path for path, weight in layers.items() if not weight.isfinite().all()]
    if bad:
        raise EdgepressError(f"cannot sparsify: the weights of {', '.join(bad[:3])} are not finite")
    masks = _masks(layers, config)
    with torch.no_grad():
        for path, mask in masks.items():
            layers[path].mul_(mask)
    return masks


def compressed_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters after zlib at its default level."""
    data = b"".join(p.detach().cpu().float().contiguous().numpy().tobytes() for p in module.parameters())
    return len(zlib.compress(data))


def _layers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield paths and weights of the layers worth it: depthwise kernels hold few weights, and each one matters."""
    for path, part in module.named_modules():
        if isinstance(part, LAYERS) and getattr(part, "groups", 1) == 1:
            yield path, part.weight


def _masks(layers: dict[str, Tensor], config: SparsifyConfig) -> dict[str, Tensor]:
    if config.pattern == "2:4":
        return {path: _two_of_four(weight) for path, weight in layers.items()}
    rows, columns = config.block if config.pattern == "block" else (1, 1)
    energy = {path: _energy(weight.detach(), rows, columns) for path, weight in layers.items()}
    size = torch.cat([_expand(e, layers[path], rows, columns).flatten() for path, e in energy.items()])
    count = min(round(config.share * size.numel()), size.numel() - 1)
    limit = size.kthvalue(count).values if count else size.new_tensor(-1.0)
    return {path: _expand(e, layers[path], rows, columns) > limit for path, e in energy.items()}


def _two_of_four(weight: Tensor) -> Tensor:
    # Along the inputs, which the hardware wants next to each other: axis 1 before the kernel's own axes.
    flat = weight.detach().abs().movedim(1, -1).reshape(-1, 4)
    keep = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, flat.topk(2, dim=1).indices, True)
    shape = weight.movedim(1, -1).shape
    return keep.reshape(shape).movedim(-1, 1)


def _energy(weight: Tensor, rows: int, columns: int) -> Tensor:
    """Return the mean square of each block of the weight as a matrix `(outputs, everything else)`."""
    flat = weight.flatten(1).square()
    padded = F.pad(flat, (0, -flat.shape[1] % columns, 0, -flat.shape[0] % rows))
    blocks = padded.view(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
    down, across = (_counts(size, step).to(flat) for size, step in zip(flat.shape, (rows, columns), strict=True))
    return blocks.sum(dim=(1, 3)) / down[:, None] / across


def _counts(size: int, step: int) -> Tensor:
    """Return how many of `size` rows lie in each block of `step`: the last one may have fewer."""
    return torch.tensor([min(step, size - start) for start in range(0, size, step)])


def _expand(energy: Tensor, weight: Tensor, rows: int, columns: int) -> Tensor:
    full = energy.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
    return full[: weight.shape[0], : weight[0].numel()].reshape(weight.shape)
