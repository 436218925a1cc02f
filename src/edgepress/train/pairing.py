"""Which modules of two networks belong together: a dry run, the stages of equal resolution, and their pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.models.inputs import normalize
from edgepress.models.predictor import evaluating
from edgepress.train.objectives.base import Place, Where

Layout = Literal["map", "nhwc", "tokens", "vector"]
IMAGES = 2
"""Of the dry run."""
PARTS: tuple[Where, ...] = ("encoder", "bottleneck", "decoder")


@dataclass(frozen=True)
class Site:
    """A module's output (or input, where the path ends in `:in`) in the dry run, in the order of their occurrence.

    `shape` is `(channels, height, width)` or `(channels,)` once brought into the layout of this house.
    """

    path: str
    shape: tuple[int, ...]
    layout: Layout
    normalizes: bool = False

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width; vectors have none."""
        return (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)


def layout_of(shape: tuple[int, ...], square: bool) -> tuple[Layout, tuple[int, ...]] | None:
    """Return how features of `shape` (with N) are laid out, and the shape of one image; None where they are none.

    `square` says that images are so. Only then are `(N, L, C)` the tokens of a transformer, of which the last `side^2`
    form a map, and is `(N, H, W, C)` told from `(N, C, H, W)` by its equal sides.
    """
    if len(shape) == 2:
        return "vector", (shape[1],)
    if len(shape) == 3:
        side = int(shape[1] ** 0.5)
        return ("tokens", (shape[2], side, side)) if square and side > 1 and shape[1] - side**2 <= 8 else None
    if len(shape) == 4:
        last = square and shape[1] == shape[2] != shape[3]
        return ("nhwc", (shape[3], shape[1], shape[2])) if last else ("map", shape[1:])
    return None


def arranged(x: Tensor, layout: Layout) -> Tensor:
    """Return features as `(N, C, H, W)` or `(N, C)`."""
    if layout == "nhwc":
        return x.permute(0, 3, 1, 2)
    if layout == "tokens":
        side = int(x.shape[1] ** 0.5)
        return x[:, x.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))
    return x


def dry_run(module: nn.Module, spec: InputSpec) -> list[Site]:
    """Return what every module of the network gives, and what every linear layer takes, in order, from one run.

    The network's own output is left out. A module that runs more than once counts where it ran last.
    """
    found: dict[str, tuple[tuple[int, ...], int, bool]] = {}

    def keep(path: str, normalizes: bool, inner: nn.Module) -> Callable[..., None]:
        def hook(part: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            first = inputs[0] if inputs else None
            if isinstance(inner, nn.Linear) and isinstance(first, Tensor):
                found.pop(f"{path}:in", None)
                found[f"{path}:in"] = tuple(first.shape), id(first), False
            if isinstance(output, Tensor):
                found.pop(path, None)
                found[path] = tuple(output.shape), id(output), normalizes
                alive.append(output)

        return hook

    alive: list[Tensor] = []  # keeps the ids from being given to another tensor
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    images = torch.full((IMAGES, *spec.shape), 127, dtype=torch.uint8, device=device)
    hooks = [
        part.register_forward_hook(
            keep(path, isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm), part)
        )
        for path, part in module.named_modules()
        if path
    ]
    try:
        with evaluating(module), torch.no_grad():
            output = module(normalize(images, spec))
    finally:
        for hook in hooks:
            hook.remove()
    sites: list[Site] = []
    for path, (shape, identity, normalizes) in found.items():
        known = layout_of(shape, spec.height == spec.width) if shape[:1] == (IMAGES,) else None
        if known and identity != id(output):
            sites.append(Site(path, known[1], known[0], normalizes))
    return sites


def stages(sites: list[Site]) -> list[Site]:
    """Return the end of every stage, shallow to deep: of the modules of one resolution the last of those that lie least
    deep, because the first layers within the next stage's block may still have the resolution of this one.

    A network of one resolution (a transformer) has no stages to tell apart: there the numbered blocks of its longest
    row count, each as a stage.
    """
    maps = [site for site in sites if site.resolution > (1, 1) and not site.path.endswith(":in")]
    tokens = [site for site in maps if site.layout == "tokens"]
    if 2 * len(tokens) > len(maps):
        # A transformer: what is shaped like `(N, C, H, W)` there are heads and their attention.
        maps = [site for site in maps if site.layout != "map"]
    found: dict[tuple[int, int], Site] = {}
    for site in maps:
        known = found.get(site.resolution)
        if known is None or site.path.count(".") <= known.path.count("."):
            found[site.resolution] = site
    ends = sorted(found.values(), key=maps.index)
    if len(ends) > 1 or not maps:
        return ends
    rows: dict[str, list[Site]] = {}
    for site in maps:
        parent, _, name = site.path.rpartition(".")
        if name.isdigit():
            rows.setdefault(parent, []).append(site)
    longest = max(rows.values(), key=len, default=[])
    return longest if len(longest) > 1 else ends


def pair(student: list[Site], teacher: list[Site], place: Place) -> list[tuple[Site, Site]]:
    """Return the modules that belong together, shallow to deep; raise `ConfigError` where there are none.

    Stages of equal resolution are paired; where no resolution occurs in both networks, or one has only one, stages at
    the same share of the depth. Levels are counted from the deepest, whatever their resolutions.
    """
    if place == "embedding":
        return [(_embedding(student), _embedding(teacher))]
    ours, theirs = stages(student), stages(teacher)
    if place == "levels" and (levels := _levels_paired(ours, theirs)):
        return levels + list(zip(_vectors(student)[-1:], _vectors(teacher)[-1:], strict=False))
    if place == "normalized":
        ours, theirs = _normalizing(student, ours), _normalizing(teacher, theirs)
    found = _stages_paired(ours, theirs)
    if not found:
        kind = "batch normalizations of maps" if place == "normalized" else "stages of maps"
        raise ConfigError(
            f"student and teacher have no {kind} that could be paired: name the modules of both in 'student' and "
            "'teacher'"
        )
    return {"middle": found[(len(found) - 1) // 2 :][:1], "last": found[-1:]}.get(place, found)


def part_pairs(student: list[Site], teacher: list[Site], where: Where) -> list[tuple[Site, Site]]:
    """Return the stages of a part of two networks that belong together; raise `ConfigError` where one has no such part.

    Maps are smallest in the bottleneck. What comes before it is the encoder, what comes after it the decoder.
    """
    found: list[tuple[Site, Site]] = []
    for name in PARTS if where == "all" else (where,):
        ours, theirs = (parts_of(sites)[name] for sites in (student, teacher))
        if (ours and theirs) or where != "all":
            for which, ends in (("student", ours), ("teacher", theirs)):
                if not ends:
                    raise ConfigError(f"the {which} has no {name}: its maps do not grow after they were smallest")
        found += _stages_paired(ours, theirs) if ours and theirs else []
    return found


def parts_of(sites: list[Site]) -> dict[Where, list[Site]]:
    """Return the ends of the stages in each part of a network, in the order of their occurrence."""
    maps = [site for site in sites if site.resolution > (1, 1) and not site.path.endswith(":in")]
    areas = [site.resolution[0] * site.resolution[1] for site in maps]
    least = [place for place, area in enumerate(areas) if area == min(areas)]
    if not least:
        return {name: [] for name in PARTS}
    return {
        "encoder": stages(maps[: least[0]]),
        "bottleneck": [maps[least[-1]]],
        "decoder": stages(maps[least[-1] + 1 :]),
    }


def _normalizing(sites: list[Site], ends: list[Site]) -> list[Site]:
    """Return the last batch normalization within each stage that has one."""
    found: list[Site] = []
    for end in ends:
        before = sites[: sites.index(end) + 1]
        found += [site for site in before if site.normalizes and site.resolution == end.resolution][-1:]
    return found


def _stages_paired(student: list[Site], teacher: list[Site]) -> list[tuple[Site, Site]]:
    many = len({s.resolution for s in student}) > 1 and len({t.resolution for t in teacher}) > 1
    if many and (equal := of_one_size(student, teacher)):
        return equal
    count = min(len(student), len(teacher), 4)
    return [(_share(student, k, count), _share(teacher, k, count)) for k in range(1, count + 1)]


def _levels_paired(student: list[Site], teacher: list[Site]) -> list[tuple[Site, Site]]:
    """Return the stages of two networks whose maps become smaller, the deepest with the deepest and so on upward; of
    others, those that are paired anyway."""
    if not (_shrinking(student) and _shrinking(teacher)):
        return _stages_paired(student, teacher)
    return list(zip(student[::-1], teacher[::-1], strict=False))[::-1]


def _shrinking(ends: list[Site]) -> bool:
    areas = [site.resolution[0] * site.resolution[1] for site in ends]
    return len(areas) > 1 and areas == sorted(set(areas), reverse=True)


def of_one_size(student: list[Site], teacher: list[Site]) -> list[tuple[Site, Site]]:
    """Return the stages of the student with those of the teacher whose maps have the same height and width."""
    by_resolution = {site.resolution: site for site in teacher}
    return [(site, by_resolution[site.resolution]) for site in student if site.resolution in by_resolution]


def _share(sites: list[Site], k: int, count: int) -> Site:
    """Return the site at `k / count` of the depth, the last for `k = count`."""
    return sites[max(0, round(k * len(sites) / count) - 1)]


def _embedding(sites: list[Site]) -> Site:
    if vectors := _vectors(sites):
        return vectors[-1]
    ends = stages(sites)
    if not ends:
        raise ConfigError("no features found to compare: name the modules in 'student' and 'teacher'")
    return ends[-1]


def _vectors(sites: list[Site]) -> list[Site]:
    """Return what linear layers take, as far as it is a vector of an image; the classifier's is the last."""
    return [site for site in sites if site.path.endswith(":in") and site.layout == "vector"]
