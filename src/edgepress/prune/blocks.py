"""Residual blocks that can go as a whole.

A block whose branch gives nothing passes its input on. Where widths have a floor (ONNX Runtime computes convolutions in
steps of 8 or 16 channels), taking whole blocks is what makes a deep, narrow network faster.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.artifact import Signature
from edgepress.cost.shapes import LAYERS
from edgepress.models.hooks import hooked
from edgepress.models.predictor import MISFITS, evaluating
from edgepress.prune.graph import MIXING, NORMS, Site


@dataclass(frozen=True)
class Block:
    """A submodule that may become `Identity`; `sites` are the numbers of those that lie inside it whole."""

    path: str
    sites: tuple[int, ...]


def find_blocks(
    module: nn.Module,
    signature: Signature,
    sites: Sequence[Site],
    protected: set[str] = frozenset(),  # type: ignore[assignment]
) -> list[Block]:
    """Return the smallest submodules of `module` that pass their input on once their weights are zero.

    Only blocks with a site inside are returned: the scores of its units say what the block is worth.
    """
    trial = copy.deepcopy(module).cpu().float().eval()
    parts = {part: path for path, part in trial.named_modules() if path and _holds_layers(part)}
    seen = _inputs(trial, signature, parts)
    found = [path for part, path in parts.items() if part in seen and _passes(part, seen[part])]
    smallest = [path for path in found if not any(other.startswith(path + ".") for other in found)]
    blocks: list[Block] = []
    for path in smallest:
        inside = tuple(
            number
            for number, site in enumerate(sites)
            if all(member.path.startswith(path + ".") for member in site.members)
        )
        free = not any(p == path or p.startswith(path + ".") for p in protected)
        if inside and free and _runs_without(module, signature, path):
            blocks.append(Block(path, inside))
    return blocks


def drop(module: nn.Module, block: Block) -> None:
    """Replace `block` by `Identity` in place."""
    module.set_submodule(block.path, nn.Identity())


def _holds_layers(part: nn.Module) -> bool:
    return not isinstance(part, LAYERS) and any(isinstance(below, LAYERS) for below in part.modules())


def _inputs(trial: nn.Module, signature: Signature, parts: dict[nn.Module, str]) -> dict[nn.Module, Tensor]:
    """Return the input of each part that takes one tensor and gives one of the same shape, for an image of noise."""
    seen: dict[nn.Module, Tensor] = {}

    def look(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        plain = len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
        if plain and inputs[0].shape == output.shape:
            seen[part] = inputs[0].clone()

    image = torch.randn(2, *signature.input.shape, generator=torch.Generator().manual_seed(0))
    with hooked(parts, look), torch.no_grad():
        trial(image)
    return seen


def _passes(part: nn.Module, given: Tensor) -> bool:
    """Return whether `part` gives back what it was given once all its weights are zero."""
    silent = copy.deepcopy(part).eval()
    with torch.no_grad():
        for below in silent.modules():
            if isinstance(below, (*LAYERS, *NORMS, *MIXING)):
                for parameter in below.parameters(recurse=False):
                    parameter.zero_()
        try:
            output = silent(given.clone())
        except MISFITS:  # it takes more than the one tensor it was seen with
            return False
        return isinstance(output, Tensor) and bool(torch.equal(output, given))


def _runs_without(module: nn.Module, signature: Signature, path: str) -> bool:
    trial = copy.deepcopy(module).cpu().float()
    drop(trial, Block(path, ()))
    image = torch.zeros(2, *signature.input.shape)
    try:
        with torch.no_grad(), evaluating(trial):
            trial(image)
    except MISFITS:  # it is called with more than one argument, or looked into
        return False
    return True
