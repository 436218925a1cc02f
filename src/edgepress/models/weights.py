"""Checkpoints from anywhere, read without running code from them."""

import pickle
import struct
import warnings
import zipfile
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.core.errors import BundleError, EdgepressError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep the state dict, in the order they are tried."""

PREFIXES = ("module.", "_orig_mod.")
"""Put before every name by `DataParallel` and `torch.compile`."""

# What torch's restricted unpickler, and the archive reader below it, raise on damaged or forbidden content.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)


def load_weights(module: nn.Module, path: Path, keep: str = "") -> None:
    """Load the checkpoint at `path` into `module`, strictly; the submodule `keep` stays as it is, whatever is there.

    `.safetensors`, or what `torch.save` wrote of a state dict, alone or under a usual key (`state_dict`, `model` ...);
    prefixes of `DataParallel` and `torch.compile` are stripped. Raises `BundleError` where the file is damaged, holds
    code, or has weights that are not finite, and `EdgepressError` where names or shapes do not fit; `module` is then as
    it was.
    """
    own = module.state_dict()
    state = _stripped(read_weights(path), own.keys())
    kept = {name: value for name, value in own.items() if keep and name.startswith(f"{keep}.")}
    state.update(kept)
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):  # absent from checkpoints of old versions of torch
            state.setdefault(name, value)
    _check(path, own, state)
    module.load_state_dict(state)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of the checkpoint at `path` by name, on the CPU; see `load_weights`."""
    if not path.is_file():
        raise EdgepressError(f"there is no weights file {path}")
    if path.suffix == ".safetensors":
        return _unwrapped(path, read_safetensors(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols: what cannot be read raises all the same
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BundleError(
            f"{path} is refused: it is damaged, or holds more than tensors and plain values, and a pickle can run code "
            f"when it is read ({_first_line(error)}). Where you trust its origin, convert it once: "
            "torch.save(model.state_dict(), ...) or safetensors.torch.save_file(model.state_dict(), ...)"
        ) from error
    except _UNREADABLE as error:
        raise BundleError(f"{path} is no readable checkpoint, or is damaged: {_first_line(error)}") from error
    return _unwrapped(path, content)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors in the safetensors file at `path`; raise `BundleError` where it is truncated or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise BundleError(f"{path} is truncated or damaged: {_first_line(error)}; copy or make it again") from error


def _unwrapped(path: Path, content: Any) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise BundleError(f"{path} holds a {type(content).__name__}, not a state dict (names and tensors)")
    others = [name for name, value in content.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if others:
        shown = ", ".join(repr(name) for name in others[:5])
        raise BundleError(
            f"{path} is no state dict: {len(others)} of its entries are no tensors ({shown}); its weights may lie "
            f"under one of these names; keys looked under: {', '.join(WRAPPERS)}"
        )
    return dict(content)


def _stripped(state: dict[str, Tensor], expected: Any) -> dict[str, Tensor]:
    found = True
    while found and state and state.keys() != set(expected):
        found = next((p for p in PREFIXES if all(name.startswith(p) for name in state)), "")
        state = {name.removeprefix(found): value for name, value in state.items()}
    return state


def _check(path: Path, own: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    problems = _name_problems("missing", sorted(own.keys() - state.keys()), state)
    problems += _name_problems("not known here", sorted(state.keys() - own.keys()), own)
    shapes = [name for name in own if name in state and own[name].shape != state[name].shape]
    problems += [
        f"  {name} is {tuple(state[name].shape)} there, {tuple(own[name].shape)} in this network" for name in shapes[:5]
    ]
    if shapes:
        problems.append(f"  {len(shapes)} of {len(own)} shapes differ")
    if problems:
        mend = "check the model's name and its arguments"
        if shapes and all(own[name].shape[1:] == state[name].shape[1:] for name in shapes):
            mend += "; if its classes are others, `head: new` of the stage `load` takes all but the last layer"
        raise EdgepressError("\n".join([f"{path} does not fit this network:", *problems, mend]))
    spoilt = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if spoilt:
        raise BundleError(
            f"{path} holds NaN or infinite weights in {len(spoilt)} tensors ({', '.join(spoilt[:3])}): "
            "the training that wrote it had diverged; take an earlier checkpoint"
        )


def _name_problems(what: str, names: list[str], others: dict[str, Tensor]) -> list[str]:
    if not names:
        return []
    lines = [f"  {len(names)} names {what}:"]
    for name in names[:3]:
        near = get_close_matches(name, others, n=1)
        lines.append(f"    {name}" + (f" (nearest there: {near[0]})" if near else ""))
    return lines


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
