"""A budget: the most a network may take, in the units of whoever pays. Light: recipes are checked without torch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from edgepress.core.config import STRICT
from edgepress.core.errors import EdgepressError
from edgepress.cost.clocks.base import clocks

LIMITS = ("params", "macs", "bytes", "latency_ms")


class ImpossibleBudgetError(EdgepressError):
    """No network that can be made from this one meets the budget."""

    exit_code = 2


@dataclass(frozen=True)
class Budget:
    """The most a network may take, in the units of whoever has to pay; every limit given must hold.

    - `params`: parameters; `macs`: multiply-accumulate operations for one image;
    - `bytes`: size of the exported FP32 file;
    - `latency_ms`: time of one call of the exported file on `runtime` with `threads` threads and `batch` images,
      measured on this machine (the lower quartile of the calls: other work on the machine only ever adds to a time);
    - `speedup`: so many times the speed of the network that the stage is given; the `latency_ms` that this is are found
      out by timing it, so that a machine that is faster today than yesterday asks for the same;
    - `energy_mj`: millijoules of such a call, of a machine that draws `watts` while it computes: a power meter tells,
      or the energy and the time in the matrix of `edgepress bench`. What an engine draws depends little on the network,
      so this is the time `energy_mj / watts`, in milliseconds, and becomes the latency asked for.
    """

    __pydantic_config__ = STRICT

    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    speedup: float | None = None
    energy_mj: float | None = None
    watts: float | None = None
    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        if self.energy_mj is not None and self.watts and self.watts > 0:
            both = (self.energy_mj / self.watts, self.latency_ms)
            object.__setattr__(self, "latency_ms", min(limit for limit in both if limit is not None))

    @property
    def limits(self) -> dict[str, float]:
        """The limits that were given, by name; energy as the latency it stands for."""
        return {name: float(getattr(self, name)) for name in LIMITS if getattr(self, name) is not None}

    @property
    def given(self) -> list[str]:
        """The names of the limits that were given, `speedup` as the latency it will be."""
        return [*self.limits, *(("latency_ms",) if self.speedup is not None and self.latency_ms is None else ())]

    def problems(self) -> list[str]:
        """Return what is wrong with the fields beyond their types."""
        given = {**self.limits, "speedup": self.speedup, "energy_mj": self.energy_mj, "watts": self.watts}
        wrong = [
            f"budget: {name} must be a number above 0, got {value:g}"
            for name, value in given.items()
            if value is not None and not (value > 0 and math.isfinite(value))
        ]
        if (self.energy_mj is None) != (self.watts is None):
            wrong.append(
                "budget: 'energy_mj' and 'watts' belong together: energy is the time of a call, times what the machine "
                "draws meanwhile"
            )
        elif not self.given and not wrong:
            names = ", ".join((*LIMITS, "speedup", "energy_mj"))
            wrong.append(f"budget: give at least one limit of {names}, for example {{latency_ms: 2.0}}")
        if self.speedup is not None and 0 < self.speedup <= 1:
            wrong.append(f"budget: speedup must be above 1 (2: half the time of a call), got {self.speedup:g}")
        if self.runtime not in clocks:
            names = ", ".join(clocks)
            wrong.append(f"budget: times on runtime {self.runtime!r} are not possible here, on these they are: {names}")
        wrong += [f"budget: {n} must be at least 1, got {getattr(self, n)}" for n in ("threads", "batch")
                  if getattr(self, n) < 1]  # fmt: skip
        return wrong

    def from_time(self, ms: float) -> "Budget":
        """Return the budget for a network whose call takes `ms` milliseconds: its `speedup` as a latency."""
        if self.speedup is None:
            return self
        asked = ms / self.speedup
        latency = asked if self.latency_ms is None else min(asked, self.latency_ms)
        return dataclasses.replace(self, latency_ms=latency, speedup=None, energy_mj=None, watts=None)

    def toward(self, full: dict[str, float], fraction: float) -> "Budget":
        """Return the budget that lies `fraction` of the way from what the network takes now (`full`) to this one."""
        given: dict[str, Any] = {"energy_mj": None, "watts": None}  # they are in the latency
        for name, limit in self.limits.items():
            value = full[name] + (limit - full[name]) * fraction if limit < full[name] else limit
            given[name] = value if name == "latency_ms" else math.ceil(value)
        return dataclasses.replace(self, **given)
