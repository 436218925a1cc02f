"""Which channels go together: groups of coupled layers, found by Torch-Pruning's dependency graph.

A *site* is one coupled dimension of a network, its *units* are the smallest sets of channels that can go alone: one
channel mostly; with grouped convolutions, the same position in every group; in attention, a head.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgepress.core.artifact import Signature
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.cost.shapes import LAYERS
from edgepress.models.difference import ties
from edgepress.models.paths import matched
from edgepress.models.predictor import MISFITS, evaluating

Side = Literal["out", "in"]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
MIXING = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)
"""Norms over channels: taking channels out changes what they do to the others. The trial of a cut passes them by."""


@dataclass(frozen=True)
class Member:
    """One side of one layer that belongs to a site: `positions[k]` of that dimension belongs to unit `units[k]`."""

    path: str
    side: Side
    positions: Tensor
    units: Tensor


@dataclass(frozen=True)
class Site:
    """A coupled dimension. `units` holds the channels of the root layer `path` that each unit takes with it."""

    path: str
    kind: Literal["channels", "heads"]
    units: tuple[tuple[int, ...], ...]
    members: tuple[Member, ...]

    @property
    def width(self) -> int:
        """How many channels the root layer has."""
        return sum(len(unit) for unit in self.units)


@dataclass(frozen=True)
class Sites:
    """What can be pruned in a network, and what cannot, with its reason by path."""

    sites: tuple[Site, ...]
    fixed: dict[str, str]


def find_sites(module: nn.Module, signature: Signature, protect: Sequence[str] = (), heads: bool = True) -> Sites:
    """Return the sites of `module`, which stays untouched; each one is proven by a trial cut on a copy.

    Raises `ConfigError` for a glob in `protect` that matches nothing, `EdgepressError` for a network whose graph cannot
    be followed, or that has nothing to prune.
    """
    protected = match_layers(module, protect)
    trial = copy.deepcopy(module).cpu().float()
    graph = Graph(trial, signature)
    found, fixed = _channel_sites(graph, protected, attention_parts(trial))
    if heads:
        found += head_sites(trial, protected)
    good, bad = _prove(module, signature, found)
    return Sites(tuple(good), fixed | bad)


def match_layers(module: nn.Module, globs: Iterable[str]) -> set[str]:
    """Return the paths of submodules that one of `globs` matches; a path below a matching one counts too."""
    return matched([name for name, _ in module.named_modules() if name], globs, "protect")


class Graph:
    """The dependency graph of `module`, which is put into evaluation mode and is cut in place."""

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        try:
            import torch_pruning
        except ModuleNotFoundError:
            raise MissingExtraError("structured pruning (Torch-Pruning)", "train") from None
        self.module = module.eval()
        self.paths = {part: path for path, part in module.named_modules()}
        self.names = {id(parameter): name for name, parameter in module.named_parameters()}
        sample = torch.zeros(2, *signature.input.shape, requires_grad=True)
        try:
            with warnings.catch_warnings(), torch.enable_grad():
                warnings.simplefilter("ignore")
                self.dependencies: Any = torch_pruning.DependencyGraph().build_dependency(
                    self.module, example_inputs=sample, verbose=False
                )
        except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise EdgepressError(f"the layers of {type(module).__name__} cannot be followed: {reason}") from error

    def groups(self) -> Iterable[Any]:
        """Yield every group of coupled layers with all its channels, as Torch-Pruning describes them."""
        return self.dependencies.get_all_groups(root_module_types=[nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear])

    def cut(self, site: Site, units: Sequence[int]) -> None:
        """Take `units` of `site` out of every layer they touch."""
        gone = sorted(channel for unit in units for channel in site.units[unit])
        if not gone:
            return
        if site.kind == "heads":
            cut_heads(self.module, site, units)
            return
        root = self.module.get_submodule(site.path)
        pruner = self.dependencies.get_pruner_of_module(root)
        self.dependencies.get_pruning_group(root, pruner.prune_out_channels, gone).prune()


def _channel_sites(graph: Graph, protected: set[str], attention: dict[str, str]) -> tuple[list[Site], dict[str, str]]:
    found: list[Site] = []
    fixed: dict[str, str] = {}
    pairs = ties(graph.module)
    tied = {name.rpartition(".")[0] for name in (*pairs, *pairs.values())}
    for group in graph.groups():
        path = graph.paths[group[0].dep.target.module]
        reason = _obstacle(graph, group, protected, attention, tied)
        if reason is None:
            site = _site(graph, group, path)
            if len(site.units) < 2:
                reason = "its channels can only go all at once"
            else:
                found.append(site)
        if reason is not None:
            fixed[path] = reason
    return found, fixed


def _obstacle(graph: Graph, group: Any, protected: set[str], attention: dict[str, str], tied: set[str]) -> str | None:
    """Return why the channels of `group` must stay, or None."""
    consumed = False
    for dep, _ in group:
        target = dep.target.module
        path = graph.paths.get(target, "")
        makes = graph.dependencies.is_out_channel_pruning_fn(dep.handler)
        consumed = consumed or not makes
        if type(target).__name__ == "_OutputOp":
            return "its channels are the network's outputs"
        if makes and path in attention:
            return f"it is coupled to the attention {attention[path]!r}, whose heads are cut instead"
        if tied and path in tied:
            return f"the weight of {path!r} is tied to another layer's"
        if makes and path in protected:
            return "protected" if path == graph.paths[group[0].dep.target.module] else f"coupled to protected {path!r}"
        if isinstance(target, nn.Parameter) and target.dim() != 1:
            return f"it is coupled to the loose parameter {graph.names.get(id(target), '')!r} of {target.dim()} axes"
        if isinstance(target, nn.MultiheadAttention | nn.Embedding | nn.LSTM):
            return f"it is coupled to {path!r}, a {type(target).__name__}"
    return None if consumed else "nothing takes its channels further"


def _site(graph: Graph, group: Any, path: str) -> Site:
    """Return the site of `group`: positions by root channel, and root channels merged into units."""
    channels = len(group[0].idxs)
    merged = _Merge(channels)
    raw: list[tuple[str, Side, list[int], list[int]]] = []
    for item in group:
        target = item.dep.target.module
        if target not in graph.paths or not isinstance(target, (*LAYERS, *NORMS, *MIXING)):
            continue
        makes = graph.dependencies.is_out_channel_pruning_fn(item.dep.handler)
        positions, roots = list(item.idxs), list(item.root_idxs)
        raw.append((graph.paths[target], "out" if makes else "in", positions, roots))
        groups = getattr(target, "groups", getattr(target, "num_groups", 1))
        depthwise = isinstance(target, nn.Conv1d | nn.Conv2d) and groups == target.out_channels == target.in_channels
        if groups > 1 and not depthwise:
            merged.same_place(positions, roots, groups, _extent(target, makes))
    units = merged.units()
    unit_of = {channel: number for number, unit in enumerate(units) for channel in unit}
    members = tuple(
        Member(where, side, torch.tensor(positions), torch.tensor([unit_of[r] for r in roots]))
        for where, side, positions, roots in raw
    )
    return Site(path, "channels", units, members)


class _Merge:
    """Root channels that must go together (union by smallest number)."""

    def __init__(self, channels: int) -> None:
        self.parent = list(range(channels))

    def find(self, channel: int) -> int:
        while self.parent[channel] != channel:
            channel = self.parent[channel]
        return channel

    def same_place(self, positions: list[int], roots: list[int], groups: int, extent: int) -> None:
        """Join channels at the same place of every group: a grouped convolution has groups of one size."""
        first: dict[int, int] = {}
        for position, root in zip(positions, roots, strict=True):
            other = first.setdefault(position % (extent // groups), root)
            a, b = sorted((self.find(root), self.find(other)))
            self.parent[b] = a

    def units(self) -> tuple[tuple[int, ...], ...]:
        together: dict[int, list[int]] = {}
        for channel in range(len(self.parent)):
            together.setdefault(self.find(channel), []).append(channel)
        return tuple(tuple(unit) for unit in together.values())


def _extent(layer: Any, makes: bool) -> int:
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    return layer.out_channels if makes else layer.in_channels


def attention_parts(module: nn.Module) -> dict[str, str]:
    """Return the paths of the layers inside timm's attention modules whose widths are bound to its heads."""
    return {
        f"{path}.{name}": path
        for path, part in module.named_modules()
        if hasattr(part, "num_heads") and hasattr(part, "qkv")
        for name in ("qkv", "q", "kv")
        if hasattr(part, name)
    }


def head_sites(module: nn.Module, protected: set[str]) -> list[Site]:
    """Return one site for each attention whose heads can be cut: a joint `qkv` layer, a `proj` layer, plain heads."""
    found: list[Site] = []
    for path, part in module.named_modules():
        qkv, proj, count = (getattr(part, name, None) for name in ("qkv", "proj", "num_heads"))
        plain = isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear) and hasattr(part, "attn_dim")
        if not plain or not isinstance(count, int) or count < 2 or f"{path}.qkv" in protected:
            continue
        assert isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear)
        if getattr(part, "gate", None) is not None or not isinstance(getattr(part, "norm", None), nn.Identity):
            continue
        if qkv.out_features != 3 * proj.in_features or proj.in_features % count:
            continue
        width = proj.in_features // count
        rows = torch.arange(qkv.out_features)
        columns = torch.arange(proj.in_features)
        units = tuple(tuple(range(head * width, (head + 1) * width)) for head in range(count))
        members = (
            Member(f"{path}.qkv", "out", rows, rows % proj.in_features // width),
            Member(f"{path}.proj", "in", columns, columns // width),
        )
        found.append(Site(path, "heads", units, members))
    return found


def cut_heads(module: nn.Module, site: Site, units: Sequence[int]) -> None:
    """Take heads out of an attention in place."""
    attention: Any = module.get_submodule(site.path)
    gone = torch.tensor(list(units))
    for member in site.members:
        layer = module.get_submodule(member.path)
        assert isinstance(layer, nn.Linear)
        keep = member.positions[~torch.isin(member.units, gone)].to(layer.weight.device)
        axis = 0 if member.side == "out" else 1
        layer.weight = nn.Parameter(layer.weight.detach().index_select(axis, keep))
        if axis == 0 and layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[keep])
        layer.out_features, layer.in_features = layer.weight.shape
    attention.num_heads -= len(units)
    attention.attn_dim = attention.num_heads * attention.head_dim


def _prove(module: nn.Module, signature: Signature, found: list[Site]) -> tuple[list[Site], dict[str, str]]:
    """Return the sites whose cut does what masking does, and the reasons of the others.

    All at once first: nearly always that settles it. Where it fails, each site is tried alone.
    """
    if not found or _trial(module, signature, found) is None:
        return found, {}
    good: list[Site] = []
    bad: dict[str, str] = {}
    for site in found:
        reason = _trial(module, signature, [site])
        if reason is None:
            good.append(site)
        else:
            bad[site.path] = reason
    while good and (reason := _trial(module, signature, good)) is not None:
        bad[good[-1].path] = f"it does not fit together with the others: {reason}"
        good.pop()
    return good, bad


def _trial(module: nn.Module, signature: Signature, sites: Sequence[Site]) -> str | None:
    """Return None where cutting every second unit gives what masking it gives, else what is wrong."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, *signature.input.shape, generator=generator)
    masked = copy.deepcopy(module).cpu().float()
    gone = {site.path: list(range(1, len(site.units), 2)) for site in sites}
    mask(masked, sites, gone)
    try:
        graph = Graph(copy.deepcopy(module).cpu().float(), signature)
        for site in sites:
            graph.cut(site, gone[site.path])
        with torch.no_grad(), evaluating(masked), _norms_passed_by(masked), _norms_passed_by(graph.module):
            expected, got = masked(image), graph.module(image)
    except MISFITS as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        return f"the network does not run without some of its channels ({first[0][:120]})"
    if expected.shape != got.shape:
        return f"the network then gives outputs of shape {tuple(got.shape)}"
    if not expected.isfinite().all():
        return None
    scale = float(expected.abs().max()) or 1.0
    off = float((expected - got).abs().max()) / scale
    return None if off < 1e-3 else f"cutting its channels is not the same as masking them (by {off:.2g} of the output)"


@contextlib.contextmanager
def _norms_passed_by(module: nn.Module) -> Iterator[None]:
    """Let norms that mix channels do nothing within the block, after they ran (so that a wrong width still shows)."""
    handles = [
        part.register_forward_hook(lambda _, inputs, output: inputs[0])
        for part in module.modules()
        if isinstance(part, MIXING)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def mask(module: nn.Module, sites: Sequence[Site], gone: dict[str, list[int]]) -> None:
    """Let the layers that take the units in `gone` ignore them, in place."""
    for site in sites:
        units = torch.tensor(gone[site.path])
        for member in site.members:
            layer = module.get_submodule(member.path)
            if member.side == "in" and isinstance(layer, LAYERS):
                with torch.no_grad():
                    view = columns(layer, layer.weight)
                    hit = member.positions[torch.isin(member.units, units)]
                    view[:, hit % view.shape[1]] = 0


def columns(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return a view of a layer's weight (or its gradient) with the input channels on axis 1."""
    return weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
