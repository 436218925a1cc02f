"""What an edited network has different from the freshly built one, as plain data, and back."""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from edgepress.core.config import STRICT
from edgepress.core.errors import EdgepressError
from edgepress.models.layers import describe, make

Plain = Any
"""A JSON value; a tuple is `{"tuple": [...]}` and a float JSON cannot hold `{"float": "inf"}`."""


@dataclass(frozen=True)
class Difference:
    """The edits of a network by path. Parents come before their children.

    - `placed`: a submodule that was added, exchanged or moved: as `layers.describe` gives it, `{"copy": path}` of one
      that the builder makes, or None;
    - `removed`: submodules, parameters and buffers that are gone;
    - `order`: the children of a submodule where their order changed;
    - `attributes`: plain attributes (`in_channels`, `groups`, `num_heads` ...) with another value;
    - `tensors`: parameters and buffers of another shape or type, or that became None;
    - `tied`: parameters that are the same object as another one, by its path.
    """

    __pydantic_config__ = STRICT

    placed: dict[str, dict[str, Any] | None] = field(default_factory=dict[str, dict[str, Any] | None])
    removed: list[str] = field(default_factory=list[str])
    order: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    attributes: dict[str, dict[str, Plain]] = field(default_factory=dict[str, dict[str, Plain]])
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    tied: dict[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        return any((self.placed, self.removed, self.order, self.attributes, self.tensors, self.tied))


def difference(fresh: nn.Module, edited: nn.Module) -> Difference:
    """Return what turns `fresh` into a module of the structure of `edited`; both stay untouched.

    Raises `EdgepressError` for a submodule of a class that is no registered layer, and for a `forward` that was set on
    an instance.
    """
    found = Difference()
    if _kind(fresh) != _kind(edited):
        raise EdgepressError(
            f"cannot save this network: its builder gives a {_kind(fresh)}, but it became a {_kind(edited)}; record "
            "what was done as an edit (edgepress.models.edits) or name a builder that gives the changed network"
        )
    _compare(fresh, edited, "", found, fresh)
    old, new = ties(fresh), ties(edited)
    found.tied.update({name: source for name, source in new.items() if old.get(name) != source})
    for name in old.keys() - new.keys():
        owner, last = _owner(edited, name)
        if last in owner._parameters and owner._parameters[last] is not None:
            found.tensors[name] = _tensor_spec(owner, last)
    return found


def apply(module: nn.Module, found: Difference) -> None:
    """Give `module`, in place, the structure that `difference` was asked to reach. The weights are not right yet."""
    sources = {spec["copy"] for spec in found.placed.values() if spec and "copy" in spec}
    originals = {path: copy.deepcopy(module.get_submodule(path)) for path in sources}
    for path, spec in found.placed.items():
        owner, name = _owner(module, path)
        owner._modules[name] = None if spec is None else _remade(spec, originals)
    for path in found.removed:
        owner, name = _owner(module, path)
        for table in (owner._modules, owner._parameters, owner._buffers):
            table.pop(name, None)
        owner._non_persistent_buffers_set.discard(name)
    for path, names in found.order.items():
        table = module.get_submodule(path)._modules
        for name in names:
            table[name] = table.pop(name)
    for path, values in found.attributes.items():
        owner = module.get_submodule(path)
        for name, value in values.items():
            if name.startswith("__") or hasattr(nn.Module, name):
                raise ValueError(f"{name!r} is no attribute that a network has of its own")
            setattr(owner, name, decode(value))
    for path, spec in found.tensors.items():
        _set_tensor(*_owner(module, path), spec)
    for path, source in found.tied.items():
        owner, name = _owner(module, path)
        source_owner, source_name = _owner(module, source)
        owner._parameters[name] = source_owner._parameters[source_name]


def ties(module: nn.Module) -> dict[str, str]:
    """Return, for each parameter that is reached under several paths, the later paths and the first one."""
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            found[name] = first[id(parameter)]
    return found


def _described(module: nn.Module, path: str, root: nn.Module) -> dict[str, Any]:
    """Return how to make `module` again: as a layer, or as a copy of a submodule of its class in `root`."""
    try:
        return describe(module, path)
    except EdgepressError:
        source = next((name for name, part in root.named_modules() if name and _kind(part) == _kind(module)), None)
        if source is None:
            raise
        return {"copy": source}


def _remade(spec: dict[str, Any], originals: dict[str, nn.Module]) -> nn.Module:
    return copy.deepcopy(originals[spec["copy"]]) if "copy" in spec else make(spec)


def _compare(fresh: nn.Module, edited: nn.Module, path: str, found: Difference, root: nn.Module) -> None:
    _compare_attributes(fresh, edited, path, found)
    _compare_tensors(fresh, edited, path, found)
    children: dict[str, nn.Module | None] = dict(fresh._modules)
    for name, child in edited._modules.items():
        below, old = _join(path, name), children.get(name)
        if child is None:
            if name not in children or old is not None:
                found.placed[below] = children[name] = None
            continue
        if old is None or _kind(old) != _kind(child):
            spec = _described(child, below, root)
            old = root.get_submodule(spec["copy"]) if "copy" in spec else make(spec)
            found.placed[below], children[name] = spec, old
        _compare(old, child, below, found, root)
    for name in [name for name in children if name not in edited._modules]:
        found.removed.append(_join(path, name))
        del children[name]
    if list(children) != list(edited._modules):
        found.order[path] = list(edited._modules)


def _compare_attributes(fresh: nn.Module, edited: nn.Module, path: str, found: Difference) -> None:
    if "forward" in vars(edited) and "forward" not in vars(fresh):
        raise EdgepressError(
            f"cannot save {path or 'this network'!r}: a function was set as its `forward`; put it into a module class "
            "and register that (edgepress.models.layers)"
        )
    old, new = dict(_attributes(fresh)), dict(_attributes(edited))
    changed = {name: value for name, value in new.items() if name not in old or _dumps(old[name]) != _dumps(value)}
    if changed:
        found.attributes[path] = changed


def _compare_tensors(fresh: nn.Module, edited: nn.Module, path: str, found: Difference) -> None:
    for old, new in ((fresh._parameters, edited._parameters), (fresh._buffers, edited._buffers)):
        found.removed.extend(_join(path, name) for name in old if name not in new)
        for name in new:
            spec = _tensor_spec(edited, name)
            if name not in old or spec != _tensor_spec(fresh, name):
                found.tensors[_join(path, name)] = spec


def _tensor_spec(owner: nn.Module, name: str) -> dict[str, Any]:
    is_buffer = name in owner._buffers
    tensor = owner._buffers[name] if is_buffer else owner._parameters[name]
    spec: dict[str, Any] = {"kind": "parameter"}
    if is_buffer:
        spec["kind"] = "loose buffer" if name in owner._non_persistent_buffers_set else "buffer"
    if tensor is None:
        return spec | {"shape": None}
    return spec | {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _set_tensor(owner: nn.Module, name: str, spec: dict[str, Any]) -> None:
    tensor = None
    if spec["shape"] is not None:
        dtype = getattr(torch, spec["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{spec['dtype']!r} is no type of numbers")
        tensor = torch.zeros(spec["shape"], dtype=dtype)
    if spec["kind"] == "parameter":
        floating = tensor is not None and tensor.is_floating_point()
        owner._parameters[name] = None if tensor is None else nn.Parameter(tensor, requires_grad=floating)
        return
    owner._buffers[name] = tensor
    owner._non_persistent_buffers_set.discard(name)
    if spec["kind"] == "loose buffer":
        owner._non_persistent_buffers_set.add(name)


def _attributes(module: nn.Module) -> Iterator[tuple[str, Plain]]:
    for name, value in vars(module).items():
        if name not in _TORCHS_OWN:
            plain, encoded = encode(value)
            if plain:
                yield name, encoded


# `training` is a mode, not structure; the rest is torch's own bookkeeping.
_TORCHS_OWN = frozenset(vars(nn.Module()))


def encode(value: object) -> tuple[bool, Plain]:
    """Return whether `value` is plain (None, bool, number, text, or lists, tuples and dicts of those), and as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return True, {"float": str(value)}
    if value is None or type(value) in (bool, int, float, str):
        return True, value
    if isinstance(value, list | tuple):
        parts = [encode(part) for part in value]
        items = [part for _, part in parts]
        return all(ok for ok, _ in parts), {"tuple": items} if isinstance(value, tuple) else items
    if type(value) is dict and all(type(key) is str for key in value):
        pairs = {key: encode(part) for key, part in value.items()}
        return all(ok for ok, _ in pairs.values()), {"dict": {key: part for key, (_, part) in pairs.items()}}
    return False, None


def decode(value: Plain) -> object:
    """Return the value that `encode` was given."""
    if isinstance(value, list):
        return [decode(part) for part in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(decode(part) for part in value["tuple"])
    if "dict" in value:
        return {key: decode(part) for key, part in value["dict"].items()}
    return float(value["float"])


def _kind(module: nn.Module) -> str:
    # By name: classes that torch makes per instance (graph modules, parametrized layers) are never identical.
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _owner(module: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return module.get_submodule(parent), name


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _dumps(value: Plain) -> str:
    return json.dumps(value, sort_keys=True)
