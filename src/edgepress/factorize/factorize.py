"""Factorizing a network: score the ranks, allocate a budget, decompose, measure, and again until the budget is met."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgepress.core.artifact import Model, Signature
from edgepress.core.errors import ConfigError, EdgepressError
from edgepress.cost.aim import Aim
from edgepress.cost.budget import Budget, ImpossibleBudgetError
from edgepress.cost.measure import Yardstick, measured
from edgepress.cost.table import LatencyTable
from edgepress.export.fake import Quantizer
from edgepress.factorize.config import FactorizeConfig
from edgepress.factorize.layers import Factored
from edgepress.factorize.methods.base import methods
from edgepress.factorize.options import Choice, Layer, by_rule, fitting, ladder, within
from edgepress.factorize.refit import output_errors, refit
from edgepress.factorize.report import Change, Report
from edgepress.factorize.sites import find_sites
from edgepress.models.inputs import to_tensor
from edgepress.models.layers import describe
from edgepress.models.statistics import repair_statistics_
from edgepress.models.structure import settle

ATTEMPTS = 8
CLOSE = 0.97
"""A measured cost above this share of the limit is taken; below, the plan is tried again a little less strictly."""


def factorize(
    model: Model,
    config: FactorizeConfig | None = None,
    budget: Budget | None = None,
    images: NDArray[np.uint8] | None = None,
    repair: NDArray[np.uint8] | None = None,
    cache: Path | None = None,
) -> tuple[Model, Report]:
    """Return `model` with factors in the place of dense layers, and what was done; `model` is untouched.

    See `factorize_`. `repair` are images that show how far the statistics of batch norms have moved. The edit is
    recorded with the layers that stayed whole and their reasons, so that the model can be saved, pruned on, quantized.
    """
    if model.precision != "fp32":
        raise EdgepressError(f"factorize needs an fp32 network, this one is {model.precision} already: factorize first")
    module = copy.deepcopy(model.module)
    report = factorize_(module, model.signature, config, budget, images=images, cache=cache)
    if repair is not None and report.changes:
        repair_statistics_(module, to_tensor(module, repair, model.signature), model.module)
    record = {
        "name": "factorize",
        "layers": {path: _recorded(module.get_submodule(path), path, c) for path, c in report.changes.items()},
        "whole": report.whole,
    }
    before = settle(model)  # what was pruned, say, is replayed first
    return dataclasses.replace(before, module=module, edits=(*before.edits, record), key=""), report


def factorize_(
    module: nn.Module,
    signature: Signature,
    config: FactorizeConfig | None = None,
    budget: Budget | None = None,
    *,
    images: NDArray[np.uint8] | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Put factors in the place of the layers of `module`, in place, where that is cheaper.

    Without a budget each layer's ranks follow the rule of `config`, and factors must take fewer parameters and fewer
    MACs than the layer did. Under `budget` (one limit) the shared solver takes the ranks that lose least, and factors
    must take less of what the budget counts; a time is that of the exported file, its layers' times are measured and
    kept in the folder `cache`. To `images`, uint8 `(N, height, width, channels)`, the last factor of each layer
    is fitted.

    Raises `ConfigError` for settings and globs, `DataError` for images that do not fit, `ImpossibleBudgetError` with
    the closest reachable value, `EdgepressError` for weights that are not finite; `module` is then as it was.
    """
    config = config or FactorizeConfig()
    check_(module, config, budget)
    work = _Work(module, signature, config, budget, images, cache, say)
    report, chains = work.search() if budget else work.apply_rule()
    for path, chain in chains.items():
        old = module.get_submodule(path)
        state = next(old.parameters())
        module.set_submodule(path, chain.to(state.device, state.dtype).train(old.training))
    return report


def check_(module: nn.Module, config: FactorizeConfig, budget: Budget | None) -> None:
    """Raise the error for what forbids factorizing: settings, weights that are not finite, quantizers."""
    problems = [*config.problems(budget is not None), *(budget.problems() if budget else [])]
    if budget and len(budget.given) > 1:
        problems.append(f"budget: give one limit, got {', '.join(budget.given)}")
    if problems:
        raise ConfigError([f"factorize: {problem}" for problem in problems])
    bad = [n for n, t in module.state_dict().items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise EdgepressError(f"cannot factorize: {', '.join(bad[:3])}{more} hold NaN or infinite values")
    if any(isinstance(part, Quantizer) for part in module.modules()):
        raise EdgepressError("cannot factorize a quantized network: factorize first, then quantize")


class _Work:
    """One factorization in progress. The given module is only looked at."""

    def __init__(
        self,
        module: nn.Module,
        signature: Signature,
        config: FactorizeConfig,
        budget: Budget | None,
        images: NDArray[np.uint8] | None,
        cache: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self.module = copy.deepcopy(module).cpu().float().eval()
        self.signature, self.config, self.say = signature, config, say
        sites, self.whole = find_sites(self.module, signature, config)
        self.layers = [fitting(site, config) for site in sites]
        self.images = None if images is None or not len(images) else to_tensor(self.module, images, signature)
        self.budget, self.table = budget, None
        if budget and "latency_ms" in budget.given:
            self.table = LatencyTable(budget, cache / "layer-times" if cache else None)
        self.decomposed: dict[tuple[str, str, tuple[int, ...]], tuple[Factored, float]] = {}

    def apply_rule(self) -> tuple[Report, dict[str, Factored]]:
        """Return what the rule of the settings gives, layer by layer."""
        rule = self.config.rule(False)
        taken: list[Choice | None] = []
        reasons: dict[str, str] = {}
        for layer in self.layers:
            found = by_rule(layer, rule, self.config)
            path, kinds = layer.site.path, ("params", "macs")
            good = [choice for choice in found if layer.saves(kinds, choice.chain) is None]
            taken.append(min(good, key=lambda choice: layer.cost("macs", choice.chain)) if good else None)
            if not good:
                nearest = min(found, key=lambda c: layer.cost("macs", c.chain)) if found else None
                shown = nearest and "x".join(str(rank) for rank in nearest.ranks)
                reasons[path] = (
                    f"by {nearest.method} at rank {shown} {layer.saves(kinds, nearest.chain)}"
                    if nearest
                    else "nothing in it stands out of the noise"
                )
        return self._finished(taken, reasons, ("params", "macs"))

    def search(self) -> tuple[Report, dict[str, Factored]]:
        """Return what meets the budget, measured on the factorized network."""
        assert self.budget is not None
        [kind] = self.budget.given
        beside = Yardstick.of(self.module, self.signature, self.budget) if kind == "latency_ms" else None
        self.budget = self.budget.from_time(beside.ms) if beside else self.budget
        full = beside.ms if beside else measured(self.module, self.signature, kind, self.budget)
        budget = self.budget.toward({kind: full}, self.config.fraction)
        limit = budget.limits[kind]
        if full <= limit:
            within_already = {layer.site.path: "the budget is met without" for layer in self.layers}
            return Report({}, self.whole | within_already, {kind: full}, {kind: full}), {}
        multiple = self.config.multiple or (self.table.step if self.table else 1)
        ladders = [ladder(layer, multiple) for layer in self.layers]
        choices = [
            [choice for choice in tried if layer.saves([kind], choice.chain, self.table) is None]
            for layer, tried in zip(self.layers, ladders, strict=True)
        ]
        rest = full - self._promised([None] * len(self.layers), kind)
        best: tuple[float, list[Choice | None]] | None = None
        closest, tried = full, list[list[Choice | None]]()
        aim = Aim(kind, limit)
        try:
            for _ in range(ATTEMPTS):
                try:
                    taken = within(self.layers, choices, kind, aim.ask, rest, self.table)
                except ImpossibleBudgetError:
                    if not tried:
                        raise
                    break  # the measured network takes more than its layers say, and nothing is left to take
                if taken in tried:
                    break
                tried.append(taken)
                after = measured(self._shaped(taken), self.signature, kind, self.budget, beside)
                self.say(f"attempt {len(tried)}: {kind} {after:.6g} of {limit:.6g}")
                closest = min(closest, after)
                if after <= aim.allowed and (best is None or after > best[0]):
                    best = after, taken
                if CLOSE * limit <= after <= aim.allowed:
                    break
                aim.saw(rest + self._promised(taken, kind), after)
        finally:
            if self.table:
                self.table.save()
        if best is None:
            raise ImpossibleBudgetError(
                f"the budget was not met in {len(tried)} attempts; closest: {kind} {closest:.6g} for {limit:.6g}"
            )
        reasons = {
            layer.site.path: "it loses more for what it saves than the others"
            if own
            else self._no_gain(layer, every, kind)
            for layer, every, own in zip(self.layers, ladders, choices, strict=True)
        }
        report, chains = self._finished(best[1], reasons, (kind,))
        return dataclasses.replace(report, before={kind: full}, after={kind: best[0]}, attempts=len(tried)), chains

    def _promised(self, taken: Sequence[Choice | None], kind: str) -> float:
        chains = [c.chain if c else layer.site.whole.chain for layer, c in zip(self.layers, taken, strict=True)]
        return sum(layer.cost(kind, chain, self.table) for layer, chain in zip(self.layers, chains, strict=True))

    def _no_gain(self, layer: Layer, tried: Sequence[Choice], kind: str) -> str:
        if not layer.methods:
            return "no method fits it"
        least = min(layer.cost(kind, choice.chain, self.table) for choice in tried) if tried else float("inf")
        now = layer.cost(kind, layer.site.whole.chain, self.table)
        words = "slower" if kind == "latency_ms" else "no cheaper"
        return f"factors would be {words}: {kind} {least:.4g} at the lowest rank instead of {now:.4g}"

    def _chain(self, layer: Layer, choice: Choice) -> tuple[Factored, float]:
        """Return the factors of a choice, and the relative Frobenius norm of what they lose."""
        key = (layer.site.path, choice.method, choice.ranks)
        if key not in self.decomposed:
            whole = layer.site.whole
            chain = _fresh(choice)
            tensors = methods.get(choice.method).tensors(whole, choice.ranks)
            with torch.no_grad():
                for part, tensor in zip(chain, tensors, strict=True):
                    part.get_parameter("weight").copy_(tensor)
                if whole.bias is not None:
                    chain[-1].get_parameter("bias").copy_(whole.bias)
            norm = whole.weight.norm().clamp_min(1e-300)
            self.decomposed[key] = chain, float((chain.whole().weight - whole.weight).norm() / norm)
        return self.decomposed[key]

    def _shaped(self, taken: Sequence[Choice | None]) -> nn.Module:
        """Return the network with the structure of these choices: what it takes does not depend on the numbers."""
        found = copy.deepcopy(self.module)
        for layer, choice in zip(self.layers, taken, strict=True):
            if choice:
                found.set_submodule(layer.site.path, _fresh(choice))
        return found

    def _finished(
        self, taken: Sequence[Choice | None], reasons: dict[str, str], kinds: Sequence[str]
    ) -> tuple[Report, dict[str, Factored]]:
        """Return the report and the chains by path, fitted to the images."""
        pairs = {layer.site.path: (layer, c) for layer, c in zip(self.layers, taken, strict=True) if c}
        chains = {path: copy.deepcopy(self._chain(layer, c)[0]) for path, (layer, c) in pairs.items()}
        outputs: dict[str, float] = {}
        if self.images is not None and chains:
            refit(self.module, chains, self.images)
            outputs = output_errors(self.module, chains, self.images)
        changes = {
            path: Change(
                choice.method,
                choice.ranks,
                self._chain(layer, choice)[1],
                outputs.get(path),
                {k: (layer.cost(k, layer.site.whole.chain, self.table), layer.cost(k, choice.chain, self.table))
                 for k in kinds},
            )
            for path, (layer, choice) in pairs.items()
        }  # fmt: skip
        left = {path: reason for path, reason in reasons.items() if path not in changes}
        return Report(changes, self.whole | left), chains


def _fresh(choice: Choice) -> Factored:
    """Return the factors of a choice with random weights; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        return Factored(*(piece.make() for piece in choice.chain)).eval()


def _recorded(chain: nn.Module, path: str, change: Change) -> dict[str, Any]:
    factors = [describe(part, f"{path}.{name}") for name, part in chain.named_children()]
    return {"method": change.method, "ranks": list(change.ranks), "error": change.error, "factors": factors}
