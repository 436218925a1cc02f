"""What to ask of a cost model so that what is measured comes to lie just under a limit."""

AIMED, NOISE = 0.995, 1.01
"""The share of a limit of time that is aimed at, and how far above it a measured time may lie."""

MARGIN = 0.05
"""The share of a bracket that is left out at its ends: each step must narrow it."""


class Aim:
    """What to `ask` a model for, mended by each measurement until what is measured is near the limit.

    `kind` is that of the limit (see `Budget`); `allowed` is the most that may be measured: other limits hold exactly.
    A model that is wrong by a factor is put right by that factor. One whose factor differs from network to network
    would swing about the limit for ever: once a measurement lay on either side, the next is between (regula falsi).
    """

    def __init__(self, kind: str, limit: float) -> None:
        self.limit, self.ask = limit, limit
        timed = kind == "latency_ms"
        self.allowed, self._goal = limit * (NOISE if timed else 1.0), limit * (AIMED if timed else 1.0)
        self._below: tuple[float, float] | None = None
        self._above: tuple[float, float] | None = None

    def saw(self, promised: float, measured: float) -> None:
        """Take in that a network takes `measured`, of which the model had said `promised`."""
        point = promised, measured
        # Of two measurements that contradict each other, the later one counts.
        if measured <= self.limit:
            self._below = point
            self._above = self._above if self._above and self._above[0] > promised else None
        else:
            self._above = point
            self._below = self._below if self._below and self._below[0] < promised else None
        self.ask = promised * self._goal / max(measured, 1e-12)
        if self._below and self._above:
            (low, least), (high, most) = self._below, self._above
            part = (self._goal - least) / (most - least)
            self.ask = low + min(max(part, MARGIN), 1 - MARGIN) * (high - low)
