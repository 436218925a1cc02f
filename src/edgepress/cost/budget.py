"""A budget: the most a network may take, in the units of whoever pays. Light: recipes are checked without torch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from edgepress.core.config import STRICT
from edgepress.core.errors import EdgepressError

LIMITS = ("params", "macs", "bytes", "latency_ms")
RUNTIMES = ("onnxruntime",)
"""Where a latency can be asked for: a clock for single layers is written for these (`cost.clock`)."""


class ImpossibleBudgetError(EdgepressError):
    """No network that can be made from this one meets the budget."""

    exit_code = 2


@dataclass(frozen=True)
class Budget:
    """The most a network may take, in the units of whoever has to pay; every limit given must hold.

    - `params`: parameters; `macs`: multiply-accumulate operations for one image;
    - `bytes`: size of the exported FP32 file;
    - `latency_ms`: time of one call of the exported file on `runtime` with `threads` threads and `batch` images,
      measured on this machine (the lower quartile of the calls: other work on the machine only ever adds to a time).
    """

    __pydantic_config__ = STRICT

    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    runtime: str = "onnxruntime"
    threads: int = 1
    batch: int = 1

    @property
    def limits(self) -> dict[str, float]:
        """The limits that were given, by name."""
        return {name: float(getattr(self, name)) for name in LIMITS if getattr(self, name) is not None}

    def problems(self) -> list[str]:
        """Return what is wrong with the fields beyond their types."""
        wrong = [
            f"budget: {name} must be a number above 0, got {value:g}"
            for name, value in self.limits.items()
            if not (value > 0 and math.isfinite(value))
        ]
        if not self.limits:
            wrong.append(f"budget: give at least one limit of {', '.join(LIMITS)}, for example {{latency_ms: 2.0}}")
        if self.runtime not in RUNTIMES:
            wrong.append(f"budget: times on runtime {self.runtime!r} are not possible here; {', '.join(RUNTIMES)} is")
        wrong += [f"budget: {n} must be at least 1, got {getattr(self, n)}" for n in ("threads", "batch")
                  if getattr(self, n) < 1]  # fmt: skip
        return wrong

    def toward(self, full: dict[str, float], fraction: float) -> "Budget":
        """Return the budget that lies `fraction` of the way from what the network takes now (`full`) to this one."""
        given: dict[str, Any] = {}
        for name, limit in self.limits.items():
            value = full[name] + (limit - full[name]) * fraction if limit < full[name] else limit
            given[name] = value if name == "latency_ms" else math.ceil(value)
        return dataclasses.replace(self, **given)
