"""An edited network on disk without pickle.

`structure.json` says how to build it, `weights.safetensors` holds its numbers.
Loading builds the network, replays the recorded edits, applies the difference and loads the weights strictly. The
outputs are those of the saved network, bit for bit.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.config import STRICT, dump, parse
from edgepress.core.errors import BundleError, ConfigError, EdgepressError
from edgepress.core.files import write_bytes, write_json
from edgepress.models.build import build, structure_only
from edgepress.models.difference import Difference, apply, difference, ties
from edgepress.models.edits import edits, replay
from edgepress.models.weights import read_safetensors

STRUCTURE, WEIGHTS = "structure.json", "weights.safetensors"
FORMAT = 1
"""Of `structure.json`; a file of a later format is refused."""

MISFITS = (AttributeError, LookupError, TypeError, ValueError, RuntimeError)
"""What Python and PyTorch raise where a structure is replayed that does not fit."""


@dataclass(frozen=True)
class Structure:
    """The content of `structure.json`. `weights` is the SHA-256 of the file beside it."""

    __pydantic_config__ = STRICT

    format: int
    builder: Builder
    signature: Signature
    edits: list[dict[str, Any]]
    difference: Difference
    channels_last: bool
    precision: str
    key: str
    weights: str


def save_model(model: Model, folder: Path) -> None:
    """Write `model` to `folder`. Each file is whole or absent, and a structure never lies beside weights not its own.

    Raises `EdgepressError` where the network cannot be rebuilt from data: see `difference`.
    """
    module = model.module
    fresh = _rebuild(model.builder, model.signature, model.edits)
    found = _checked_difference(fresh, module, model.builder.name)
    tensors = _tensors(module, fresh)
    try:
        from safetensors.torch import save

        data = save(tensors)
    except (KeyError, ValueError) as error:
        raise EdgepressError(f"these weights cannot be saved as safetensors: {error}") from error
    structure = Structure(
        FORMAT,
        structure_only(model.builder),
        model.signature,
        list(model.edits),
        found,
        any(_is_channels_last(tensor) for tensor in module.parameters()),
        model.precision,
        model.key,
        hashlib.sha256(data).hexdigest(),
    )
    write_bytes(folder / WEIGHTS, data)
    write_json(folder / STRUCTURE, dump(structure))


def load_model(folder: Path) -> Model:
    """Return the model saved in `folder`, on the CPU, in evaluation mode.

    Raises `BundleError` where a file is absent, damaged, or of a later format, and `ConfigError` where the builder it
    names is not known here. A builder `package.module:factory` is imported and called: load only what you trust so far.
    """
    structure = _read_structure(folder / STRUCTURE)
    path = folder / WEIGHTS
    if not path.is_file():
        raise BundleError(f"{folder} holds no {WEIGHTS}: the model was not saved completely")
    tensors = read_safetensors(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != structure.weights:
        raise BundleError(f"{path} is not the file that {STRUCTURE} was written with (its checksum differs)")
    try:
        module = _rebuild(structure.builder, structure.signature, structure.edits)
        apply(module, structure.difference)
        _load(module, tensors)
    except MISFITS as error:
        raise BundleError(
            f"{folder}: the saved structure does not fit what {structure.builder.name!r} builds here ({error}); was it "
            "saved with another version of that library?"
        ) from error
    if structure.channels_last:
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Model(
        module.eval(),
        structure.builder,
        structure.signature,
        tuple(structure.edits),
        structure.precision,
        structure.key,
    )


def settle(model: Model) -> Model:
    """Return `model` with what its module has different so far recorded as an edit.

    Call it before an edit that exchanges modules (quantization), so that this edit is replayed on the network it was
    made for.
    """
    fresh = _rebuild(model.builder, model.signature, model.edits)
    found = _checked_difference(fresh, model.module, model.builder.name)
    record = {"name": "difference", **dump(found)}
    return replace(model, edits=(*model.edits, record)) if found else model


@edits.register("difference")
def apply_difference(module: nn.Module, signature: Signature, config: dict[str, Any]) -> nn.Module:
    """Replay a recorded `Difference`. Raises `BundleError` where it does not fit the network."""
    try:
        apply(module, parse(Difference, config))
    except (ConfigError, *MISFITS) as error:
        raise BundleError(
            f"the recorded change does not fit the {type(module).__name__} that is built here ({error}); was it saved "
            "with another version of that library?"
        ) from error
    return module


def _rebuild(builder: Builder, signature: Signature, records: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        return replay(build(structure_only(builder), signature), signature, records)


def _checked_difference(fresh: nn.Module, module: nn.Module, name: str) -> Difference:
    """Return the difference after trying it: `fresh` then has the structure of `module`."""
    found = difference(fresh, module)
    apply(fresh, found)
    left = difference(fresh, module)
    if left:
        where = [*left.placed, *left.removed, *left.order, *left.attributes, *left.tensors, *left.tied]
        raise EdgepressError(
            f"cannot save this edited {name!r}: it shares a submodule between several places and changed it in one of "
            f"them ({', '.join(where[:3])}); give each place a module of its own in the factory"
        )
    return found


def _tensors(module: nn.Module, fresh: nn.Module) -> dict[str, Tensor]:
    """Return everything that loading must restore, each tied parameter once, no two tensors sharing memory."""
    tied = ties(module)
    found: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise EdgepressError(f"cannot save {name!r}: a {type(value).__name__} is no tensor")
        if name not in tied:
            found[name] = value
    kept = module.state_dict().keys()
    rebuilt = dict(fresh.named_buffers(remove_duplicate=False))
    for name, buffer in module.named_buffers(remove_duplicate=False):
        if name not in kept and not torch.equal(buffer.cpu(), rebuilt[name].cpu()):
            found[name] = buffer
    # Cloned, because safetensors refuses tensors that are views of one memory.
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}


def _load(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    kept = module.state_dict().keys()
    buffers = dict(module.named_buffers(remove_duplicate=False))
    with torch.no_grad():
        for name in [name for name in tensors if name in buffers and name not in kept]:
            buffers[name].copy_(tensors.pop(name))
    module.load_state_dict(tensors | {name: tensors[source] for name, source in ties(module).items()})


def _is_channels_last(tensor: Tensor) -> bool:
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def _read_structure(path: Path) -> Structure:
    if not path.is_file():
        raise BundleError(f"{path.parent} holds no saved model: there is no {path.name}")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    given = data.get("format") if isinstance(data, dict) else None
    if isinstance(given, int) and given > FORMAT:
        raise BundleError(f"{path} has format {given}; this edgepress reads up to {FORMAT}: update edgepress")
    try:
        return parse(Structure, data, str(path))
    except ConfigError as error:
        raise BundleError(str(error)) from error
