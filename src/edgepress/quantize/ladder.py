"""The ladder: methods of post-training quantization in order of what they cost, climbed only as far as one must.

Each rung is judged by the score of the exported file on the validation split. A rung that does not lower the score
stays for the next ones; one that does is left out again. Where the last one does not reach the target either, that is
said, and the best file that was found is what one gets.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Model
from edgepress.core.errors import ParityError
from edgepress.export.graph import trace
from edgepress.quantize.config import FLOAT_BITS, MOST_BITS, QuantizeConfig
from edgepress.quantize.equalize import pairs
from edgepress.quantize.place import place
from edgepress.quantize.ptq import quantize, sample
from edgepress.quantize.sensitivity import sensitivity
from edgepress.quantize.widths import layers

SHARES = (8, 4, 2)
"""The last rungs give more bits to this part of the layers: an eighth of them, a quarter, half."""


@dataclass(frozen=True)
class Rung:
    """One step: the `score` of its file (None where the file did not pass the parity gate), what it `gained` over the
    best before it, whether it was `kept`; `layers` maps those with more bits to their bits."""

    name: str
    seconds: float
    score: float | None
    gained: float
    kept: bool
    layers: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Climb:
    """What came of it: the best model, the score of the floating-point file, the rungs, the target."""

    model: Model
    floating: float
    score: float
    target: float
    rungs: tuple[Rung, ...]
    sensitivity: Mapping[str, float]

    @property
    def reached(self) -> bool:
        """Whether the score is at least the target."""
        return self.score >= self.target

    def plain(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {
            "floating": self.floating,
            "score": self.score,
            "target": self.target,
            "reached": self.reached,
            "rungs": [asdict(rung) for rung in self.rungs],
            "sensitivity": dict(self.sensitivity),
        }


def climb(
    model: Model,
    images: NDArray[np.uint8],
    config: QuantizeConfig,
    judge: Callable[[Model], float],
    max_drop: float,
    say: Callable[[str], None] = lambda _: None,
    metric: str = "score",
) -> Climb:
    """Return the cheapest quantization of `model` whose score falls by at most `max_drop`, or the best one found.

    `judge` gives the score of a model, in points, higher being better; it may raise `ParityError`, which counts as a
    rung that fails. Bit widths, granularity and budget are those of `config`; its estimator is that of the second rung.
    """
    ladder = _Ladder(model, images, judge, max_drop, say, metric)
    return ladder.climb(config)


class _Ladder:
    def __init__(
        self,
        model: Model,
        images: NDArray[np.uint8],
        judge: Callable[[Model], float],
        max_drop: float,
        say: Callable[[str], None],
        metric: str,
    ) -> None:
        self.model, self.images, self.judge, self.say = model, images, judge, say
        self.traced = trace(model.module, model.signature)
        self.floating = judge(model)
        self.target = self.floating - max_drop
        self.best: tuple[float, Model | None] = (float("-inf"), None)
        self.rungs: list[Rung] = []
        self.sensitivity: dict[str, float] = {}
        say(f"target on the validation split: {self.target:.2f}, at most {max_drop:g} below the float file")
        say(f"{'rung':34}{metric:>8}{'drop':>8}{'gained':>8}{'seconds':>9}")
        say(f"{'floating point':34}{self.floating:8.2f}")

    def climb(self, config: QuantizeConfig) -> Climb:
        current = replace(
            config,
            estimator="minmax",
            weight_ranges="minmax",
            bias_correction=False,
            equalization=False,
            rounding="nearest",
        )
        for name, change in self._changes(config):
            changed = replace(current, **change)
            current = changed if self._try(name, changed) else current
            if self.best[0] >= self.target:
                break
            if current.budget is not None and self.best[1] is not None:
                current = replace(current, bits=self.best[1].edits[-1]["bits"])  # measured once, kept from then on
        if self.best[0] < self.target and config.budget is None:
            self._more_bits(current)
        score, best = self.best
        if best is None:
            raise ParityError("no rung of the ladder gave a file that computes what its network does")
        result = Climb(best, self.floating, score, self.target, tuple(self.rungs), self.sensitivity)
        best = replace(best, edits=(*best.edits[:-1], {**best.edits[-1], "ladder": result.plain()}))
        self._conclude(config, score)
        return replace(result, model=best)

    def _changes(self, config: QuantizeConfig) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the rungs and the fields they change."""
        yield "nearest codes, min-max ranges", {}
        estimator = config.estimator if config.estimator != "minmax" else "mse"
        yield f"ranges by {estimator}", {"estimator": estimator, "weight_ranges": "auto"}
        yield "bias correction", {"bias_correction": True}
        if pairs(self.traced):
            yield "cross-layer equalization", {"equalization": True}
        else:
            self.say("cross-layer equalization: no two layers here that a factor can move between")
        yield "learned rounding", {"rounding": "learned", "bias_correction": True}

    def _try(self, name: str, config: QuantizeConfig, given: Mapping[str, int] | None = None) -> bool:
        """Judge one rung; return whether it stays."""
        begin = time.perf_counter()
        made = quantize(self.model, self.images, config, self.traced)
        try:
            score = self.judge(made)
        except ParityError:
            self.rungs.append(Rung(name, time.perf_counter() - begin, None, 0.0, False, dict(given or {})))
            self.say(f"{name[:33]:34}the file did not pass the parity gate")
            return False
        seconds = time.perf_counter() - begin
        first = self.best[1] is None
        gained = 0.0 if first else score - self.best[0]
        kept = first or gained >= 0
        self.rungs.append(Rung(name, seconds, score, gained, kept, dict(given or {})))
        told = "" if first else f"{gained:+8.2f}"
        note = "" if kept else "  left out"
        self.say(f"{name[:33]:34}{score:8.2f}{self.floating - score:8.2f}{told:>8}{seconds:9.1f}{note}")
        if first or gained > 0:
            self.best = score, made
        return kept

    def _more_bits(self, config: QuantizeConfig) -> None:
        """Give the layers that suffer most the next higher precision: 8 bits, or floating point where they have 8."""
        graph_module = self.traced
        placement = place(graph_module, config.weights, config.activations, config.first_last)
        found = layers(graph_module, placement)
        recorded = self.best[1].edits[-1]["bits"] if self.best[1] is not None else {}
        now = {name: int(recorded.get(name, layer.site.bits)) for name, layer in found.items()}
        inputs = sample(self.images, self.model.signature)
        classes = self.model.signature.task in ("classification", "segmentation")
        for bits in sorted(set(now.values()) - {FLOAT_BITS}):
            some = {name: found[name] for name in found if now[name] == bits}
            losses = sensitivity(graph_module, some, inputs, (bits,), classes)
            self.sensitivity |= {name: loss[bits] for name, loss in losses.items()}
        order = sorted(self.sensitivity, key=lambda name: -self.sensitivity[name])
        told = 0
        for share in SHARES:
            chosen = order[: max(1, len(order) // share)]
            if len(chosen) == told:
                continue
            for name in chosen[told:]:
                wider = _wider(now[name])
                self.say(f"  {name[:43]:44}loss alone {self.sensitivity[name]:8.2g}  {now[name]} -> {wider} bits")
            told = len(chosen)
            given = {name: _wider(now[name]) for name in chosen}
            bits = {name: b for name, b in {**now, **given}.items() if b != found[name].site.bits}
            self._try(f"more bits for {told} layers", replace(config, bits=bits, budget=None), given)
            if self.best[0] >= self.target:
                return

    def _conclude(self, config: QuantizeConfig, score: float) -> None:
        drop = self.floating - score
        if score >= self.target:
            self.say(f"reached: {score:.2f}, {drop:.2f} below the float file")
            return
        self.say(f"not reached: the best rung has {score:.2f}, {drop:.2f} below the float file")
        self.say(f"training may reach it: the stage `qat: {{weights: {config.weights}}}` in place of this one")


def _wider(bits: int) -> int:
    return MOST_BITS if bits < MOST_BITS else FLOAT_BITS
