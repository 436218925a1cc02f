"""A table of layer times on a runtime, filled as they are asked for and kept per machine."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from edgepress.core.files import write_json
from edgepress.cost.budget import Budget
from edgepress.cost.clocks.base import clocks
from edgepress.cost.shapes import Shape
from edgepress.runtime.engine import engines

LayerClock = Callable[[Shape, int, int, int, int], float]
"""Called with a shape, inputs, outputs, threads and batch; returns the milliseconds the kernel of that layer takes."""

STEPS = (1, 2, 4, 8, 16, 32)
PROBE = Shape("conv", 16, 16, (3, 3), (1, 1), (1, 1), (1, 1))
WIDE = 64
"""The layer by which the step is measured, and its channels."""

ROUNDS = 3
"""So often is each of its widths timed; the shortest counts."""


class LatencyTable:
    """Milliseconds of a layer of any widths, between few measured ones.

    Widths are rounded up to what the runtime computes in (`step`); times between measured widths are interpolated in
    both directions. With `folder` the table is kept there, for this machine, runtime, its version, threads and batch.
    """

    def __init__(self, budget: Budget, folder: Path | None = None, clock: LayerClock | None = None) -> None:
        self._threads, self._batch = budget.threads, budget.batch
        self._clock = clock or clocks.get(budget.runtime)().layer_ms
        self._path = folder / f"{_digest(budget)}.json" if folder else None
        self._times: dict[str, float] = self._read()
        self._fresh = 0
        self.step = self._measure_step()
        self.save()

    def __call__(self, shape: Shape, inputs: int, outputs: int) -> float:
        """Return the milliseconds of a layer of this shape with so many inputs and outputs."""
        if shape.grouping == "depthwise":
            points = _bracket(outputs, self.step)
            return _between(outputs, self.step, [(width, self._at(shape, width, width)) for width in points])
        if shape.grouping != "full":
            groups = int(shape.grouping)
            return self._at(shape, max(inputs // groups, 1) * groups, max(outputs // groups, 1) * groups)
        rows: list[tuple[int, float]] = []
        for into in _bracket(inputs, self.step):
            line = [(out, self._at(shape, into, out)) for out in _bracket(outputs, self.step)]
            rows.append((into, _between(outputs, self.step, line)))
        return _between(inputs, self.step, rows)

    @property
    def measured(self) -> int:
        """How many layers were timed since this table was opened."""
        return self._fresh

    def save(self) -> None:
        """Keep what was measured for the next time."""
        if self._path and self._fresh:
            # Another process may have added to it meanwhile: both tables are of the same machine.
            write_json(self._path, {**self._read(), **self._times})

    def _at(self, shape: Shape, inputs: int, outputs: int) -> float:
        key = f"{shape.kind} {shape.height}x{shape.width} k{shape.kernel} s{shape.stride} p{shape.padding} "
        key += f"d{shape.dilation} {shape.grouping} {inputs}>{outputs}"
        if key not in self._times:
            self._times[key] = self._clock(shape, inputs, outputs, self._threads, self._batch)
            self._fresh += 1
        return self._times[key]

    def _measure_step(self) -> int:
        """Return the smallest number of channels that, taken from a layer, gives at least half its share of time, as
        every larger one does. All are timed in turns, a few times: the answer is kept."""
        if "step" not in self._times:
            widths = [WIDE, *(WIDE - step for step in STEPS)]
            rounds = [[self._clock(PROBE, WIDE, w, self._threads, self._batch) for w in widths] for _ in range(ROUNDS)]
            full, *less = (min(times) for times in zip(*rounds, strict=True))
            works = [time <= full * (1 - 0.5 * step / WIDE) for step, time in zip(STEPS, less, strict=True)]
            self._times["step"] = next((step for k, step in enumerate(STEPS) if all(works[k:])), STEPS[0])
            self._fresh += 1
        return int(self._times["step"])

    def _read(self) -> dict[str, float]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            found = json.loads(self._path.read_bytes())
        except ValueError:  # damaged: it can all be measured again
            return {}
        good = isinstance(found, dict) and all(isinstance(v, int | float) and v >= 0 for v in found.values())
        return found if good else {}


def _digest(budget: Budget) -> str:
    from edgepress.cost.machine import machine

    words = [machine(), budget.runtime, json.dumps(engines.get(budget.runtime).versions(), sort_keys=True)]
    words += [str(budget.threads), str(budget.batch)]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _bracket(width: int, step: int) -> list[int]:
    """Return the measured widths around `width`: itself if small, else one or two of 1, 2, 3, 4, 6, 8 ... steps."""
    if width <= step:
        return [width]
    steps = -(-width // step)
    grid = [1, 2, 3]
    while grid[-1] < steps:
        grid += [grid[-2] * 2, grid[-1] * 2]
    if steps in grid:
        return [steps * step]
    above = next(k for k in grid if k > steps)
    below = max(k for k in grid if k < steps)
    return [below * step, above * step]


def _between(width: int, step: int, points: list[tuple[int, float]]) -> float:
    if len(points) == 1:
        return points[0][1]
    (low, first), (high, last) = points
    rounded = -(-width // step) * step
    return first + (last - first) * (rounded - low) / (high - low)
