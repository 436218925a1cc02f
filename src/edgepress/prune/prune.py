"""Structured pruning of a network under a budget: score, allocate, cut, measure, and again until the budget is met."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgepress.core.artifact import Model, Signature
from edgepress.core.config import dump
from edgepress.core.errors import ConfigError, DataError, EdgepressError
from edgepress.cost.aim import Aim
from edgepress.cost.budget import Budget, ImpossibleBudgetError
from edgepress.cost.measure import Yardstick, measured
from edgepress.cost.table import LatencyTable
from edgepress.export.fake import Quantizer
from edgepress.export.graph import export_graph
from edgepress.models.inputs import to_tensor
from edgepress.models.statistics import repair_statistics_
from edgepress.models.structure import settle
from edgepress.prune.blocks import drop, find_blocks
from edgepress.prune.config import PruneConfig
from edgepress.prune.cost import CostModel
from edgepress.prune.graph import Graph, Site, find_sites, match_layers
from edgepress.prune.scores.base import Evidence, scores
from edgepress.prune.solve import Plan, binding, levels, order, solve
from edgepress.tasks.base import tasks

ATTEMPTS = 8
CLOSE = 0.98
"""A measured time above this share of the limit is taken; below, the plan is tried again a little less strictly."""


@dataclass(frozen=True)
class Report:
    """What pruning did: limits asked for, costs measured before and after, widths by layer, blocks dropped, what was
    left and why."""

    asked: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]
    promised: dict[str, float]
    """What the cost model had said of the network that was taken."""
    widths: dict[str, tuple[int, int]]
    dropped: tuple[str, ...]
    fixed: dict[str, str]
    multiple: int
    attempts: int
    notes: dict[str, Any] = field(default_factory=dict[str, Any])


def prune(
    model: Model,
    budget: Budget,
    config: PruneConfig | None = None,
    images: NDArray[np.uint8] | None = None,
    targets: NDArray[np.int64] | None = None,
    repair: NDArray[np.uint8] | None = None,
    cache: Path | None = None,
    seed: int = 0,
) -> tuple[Model, Report]:
    """Return `model` pruned to `budget`, and what was done; `model` is untouched. See `prune_`.

    `repair` are images that show how far the statistics of batch norms have moved. The change of structure is recorded,
    so that the model can be saved, or quantized and then saved.
    """
    if model.precision != "fp32":
        raise EdgepressError(f"prune needs an fp32 network, this one is {model.precision} already: prune first")
    module = copy.deepcopy(model.module)
    report = prune_(module, model.signature, budget, config, images=images, targets=targets, cache=cache, seed=seed)
    if repair is not None:
        repair_statistics_(module, to_tensor(module, repair, model.signature), model.module)
    return settle(dataclasses.replace(model, module=module, key="")), report


def prune_(
    module: nn.Module,
    signature: Signature,
    budget: Budget,
    config: PruneConfig | None = None,
    *,
    images: NDArray[np.uint8] | None = None,
    targets: NDArray[np.int64] | None = None,
    cache: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Prune `module` in place until every limit of `budget` is met, measured on the pruned network.

    `images` uint8 `(N, height, width, channels)` and `targets` are what scores look at, `seed` is that of the score
    `random`. `cache` is a folder for measured layer times. Times and bytes are those of the exported FP32 file. Where
    nothing has to go, nothing does.

    Raises `ConfigError` for settings, `DataError` for images that do not fit, `ImpossibleBudgetError` with the closest
    reachable value, and `EdgepressError` for a network that cannot be pruned; `module` is then as it was.
    """
    config = config or PruneConfig()
    check_(module, signature, budget, config)
    work = _Work(module, signature, budget, config, cache, say)
    if all(work.before[kind] <= limit for kind, limit in work.asked.items()):
        return work.report(Plan(tuple(work.model.none)), work.before, work.before, 0)
    losses = work.losses(images, targets, seed)
    plan, after, promised, attempts = work.search(losses)
    cut_(module, signature, work, plan)
    return work.report(plan, after, promised, attempts)


def check_(module: nn.Module, signature: Signature, budget: Budget, config: PruneConfig) -> None:
    """Raise the error for what forbids pruning: settings, weights that are not finite, quantizers, control flow."""
    problems = [*budget.problems(), *config.problems()]
    if problems:
        raise ConfigError([f"prune: {problem}" for problem in problems])
    scores.get(config.score)
    match_layers(module, config.protect)
    bad = [n for n, t in module.state_dict().items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise EdgepressError(f"cannot prune: {', '.join(bad[:3])}{more} hold NaN or infinite values")
    if any(isinstance(part, Quantizer) for part in module.modules()):
        raise EdgepressError("cannot prune a quantized network: prune first, then quantize")
    export_graph(module, signature)


class _Work:
    """One pruning in progress. The given module is only looked at."""

    def __init__(
        self,
        module: nn.Module,
        signature: Signature,
        budget: Budget,
        config: PruneConfig,
        cache: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.module = copy.deepcopy(module).cpu().float().eval()
        self.signature, self.config, self.say = signature, config, say
        found = find_sites(self.module, signature, config.protect, config.heads)
        self.sites, self.fixed = found.sites, found.fixed
        protected = match_layers(module, config.protect)
        global_ = config.scope == "global"
        blocks = find_blocks(self.module, signature, self.sites, protected) if config.blocks and global_ else []
        if not self.sites:
            reasons = "; ".join(f"{path}: {why}" for path, why in list(self.fixed.items())[:6]) or "it has no layers"
            raise EdgepressError(f"nothing in this {type(module).__name__} can be pruned: {reasons}")
        self.model = CostModel(self.module, signature, self.sites, blocks)
        self.beside = Yardstick.of(self.module, signature, budget) if "latency_ms" in budget.given else None
        budget = budget.from_time(self.beside.ms) if self.beside else budget
        self.budget, self.asked = budget, budget.limits
        known = {"latency_ms": self.beside.ms} if self.beside else {}
        self.before = {kind: known.get(kind) or self.measure(self.module, kind) for kind in budget.limits}
        self.table = LatencyTable(budget, cache / "layer-times" if cache else None) if budget.latency_ms else None
        self.model.time = self.table
        for kind, value in self.before.items():
            self.model.explain(kind, value, spread=kind == "latency_ms")
        self.order: list[list[int]] = []
        self.multiple = config.multiple or (self.table.step if self.table else 1)
        self.budget = budget.toward(self.before, config.fraction)

    def measure(self, module: nn.Module, kind: str) -> float:
        """Return what `module` takes, measured: see `Budget`."""
        return measured(module, self.signature, kind, self.budget, self.beside)

    def losses(self, images: NDArray[np.uint8] | None, targets: NDArray[np.int64] | None, seed: int) -> list[Tensor]:
        """Return the score of every unit, site by site."""
        score = scores.get(self.config.score)()
        if score.needs_images and (images is None or targets is None or len(images) == 0):
            free = ", ".join(name for name in scores if not scores.get(name).needs_images)
            raise DataError(f"score {self.config.score!r} looks at images and targets: give some, or take {free}")
        evidence = _evidence(self.module, self.signature, images, targets, seed)
        found = score(self.module, self.sites, evidence)
        bad = [site.path for site, values in zip(self.sites, found, strict=True) if not values.isfinite().all()]
        if bad:
            raise EdgepressError(f"the score {self.config.score!r} of {', '.join(bad[:3])} is not finite")
        if not score.comparable:
            found = [values / values.sum().clamp_min(1e-12) for values in found]
        return found

    def search(self, losses: Sequence[Tensor]) -> tuple[Plan, dict[str, float], dict[str, float], int]:
        """Return the plan that meets the budget on the measured network: its costs, those promised, the attempts."""
        limits = self.budget.limits
        pairs = [order(site, values, self.config.minimum) for site, values in zip(self.sites, losses, strict=True)]
        self.order = [found for found, _ in pairs]
        ordered = [values[found] for values, found in zip(losses, self.order, strict=True)]
        self.model.rank(self.order)
        allowed = levels(self.model, self.config.minimum, self.multiple)
        allowed = [[n for n in options if n <= most] for options, (_, most) in zip(allowed, pairs, strict=True)]
        aims = {kind: Aim(kind, limit) for kind, limit in limits.items()}
        tried: dict[Plan, tuple[dict[str, float], dict[str, float]]] = {}
        good: list[Plan] = []
        try:
            for _ in range(ATTEMPTS):
                wanted = {kind: aim.ask for kind, aim in aims.items()}
                plan = self._planned(ordered, wanted, allowed, bool(tried))
                if plan is None or plan in tried:
                    break
                candidate = copy.deepcopy(self.module)
                cut_(candidate, self.signature, self, plan)
                after = {kind: self.measure(candidate, kind) for kind in limits}
                promised = {kind: self.model.total(kind, plan.gone, plan.dropped) for kind in limits}
                tried[plan] = (after, {kind: promised[kind] * limits[kind] / wanted[kind] for kind in limits})
                shown = ", ".join(f"{kind} {after[kind]:.6g} of {limits[kind]:.6g}" for kind in limits)
                self.say(f"attempt {len(tried)}: {shown}")
                if all(after[kind] <= aim.allowed for kind, aim in aims.items()):
                    good.append(plan)
                    if max(after[kind] / limit for kind, limit in limits.items()) > CLOSE:
                        break
                for kind, aim in aims.items():
                    aim.saw(promised[kind], after[kind])
        finally:
            if self.table:
                self.table.save()
        if not good:
            raise self._out_of_reach(tried)
        best = max(good, key=lambda p: sum(tried[p][0][kind] / limit for kind, limit in limits.items()))
        return best, *tried[best], len(tried)

    def _planned(
        self, losses: Sequence[Tensor], wanted: dict[str, float], allowed: list[list[int]], again: bool
    ) -> Plan | None:
        """Return the plan that should meet the budget. What the model says of times may be wrong: where it says that
        they are out of reach, the smallest network is measured first; `again` there is nothing more to try."""
        try:
            return solve(self.model, losses, wanted, allowed, self.config.scope)
        except ImpossibleBudgetError:
            if again:
                return None
            if self.table is None:
                raise
        blocks = range(len(self.model.blocks)) if self.config.scope == "global" else ()
        return Plan(tuple(options[-1] for options in allowed), frozenset(blocks))

    def _out_of_reach(self, tried: dict[Plan, tuple[dict[str, float], dict[str, float]]]) -> ImpossibleBudgetError:
        limits = self.budget.limits
        plan = min(tried, key=lambda p: max(tried[p][0][kind] / limit for kind, limit in limits.items()))
        shown = ", ".join(
            f"{kind} {tried[plan][0][kind]:.6g} for {limit:.6g} (most of it in {binding(self.model, kind, plan.gone)})"
            for kind, limit in limits.items()
        )
        return ImpossibleBudgetError(f"the budget was not met in {len(tried)} attempts; closest reachable: {shown}")

    def report(self, plan: Plan, after: dict[str, float], promised: dict[str, float], attempts: int) -> Report:
        """Return what was done."""
        widths = {
            site.path: (site.width, site.width - sum(len(site.units[u]) for u in self.order[number][:count]))
            for number, (site, count) in enumerate(zip(self.sites, plan.gone, strict=True))
            if count
        }
        dropped = tuple(self.model.blocks[number].path for number in sorted(plan.dropped))
        measured = {"layers_timed": self.table.measured} if self.table else {}
        return Report(
            self.asked, self.before, after, promised, widths, dropped, self.fixed, self.multiple, attempts, measured
        )


def cut_(module: nn.Module, signature: Signature, work: _Work, plan: Plan) -> None:
    """Cut `module` in place as `plan` says; it is on the device it was on, in the mode it was in."""
    parts: list[tuple[Site, list[int]]] = [
        (site, work.order[number][:count])
        for number, (site, count) in enumerate(zip(work.sites, plan.gone, strict=True))
        if count
    ]
    modes = {path: part.training for path, part in module.named_modules()}
    device = next(module.parameters()).device
    module.cpu()
    graph = Graph(module, signature)
    for site, units in parts:
        graph.cut(site, units)
    for number in plan.dropped:
        drop(module, work.model.blocks[number])
    for path, part in module.named_modules():
        part.training = modes.get(path, module.training)
    module.to(device)


def _evidence(
    module: nn.Module,
    signature: Signature,
    images: NDArray[np.uint8] | None,
    targets: NDArray[np.int64] | None,
    seed: int = 0,
) -> Evidence:
    if images is None or targets is None:
        empty = torch.zeros(0, *signature.input.shape)
        return Evidence(empty, lambda outputs, start: outputs.sum() * 0, seed)
    if len(images) != len(targets):
        raise DataError(f"there are {len(images)} images and {len(targets)} targets")
    task, truth = tasks.get(signature.task), torch.from_numpy(np.ascontiguousarray(targets))

    def loss(outputs: Tensor, start: int) -> Tensor:
        return task.loss(outputs, truth[start : start + len(outputs)], 0.0)

    return Evidence(to_tensor(module, images, signature), loss, seed)


def summary(report: Report) -> dict[str, Any]:
    """Return `report` as JSON values, for a stage's notes."""
    return dump(report)
