"""Timing calls: warm-up, pinned threads, quantiles, and a limit on the time it may take."""

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepress.measure import environment

WIDE = 25.0
"""A spread above this many percent is too wide to tell two artifacts a few percent apart."""


@dataclass(frozen=True)
class Timing:
    """The seconds that each of `n` timed calls took, in order."""

    seconds: NDArray[np.float64]

    @property
    def n(self) -> int:
        """How many calls were timed."""
        return len(self.seconds)

    def ms(self, quantile: float) -> float:
        """Return a quantile in milliseconds; 0.5 is the median."""
        return float(np.quantile(self.seconds, quantile) * 1e3)

    @property
    def spread(self) -> float:
        """The distance between the 10th and the 90th percentile, in percent of the median."""
        return (self.ms(0.9) - self.ms(0.1)) / max(self.ms(0.5), 1e-9) * 100

    def per_second(self, batch: int) -> float:
        """Return how many items a second calls of `batch` items get through, pauses of the machine included."""
        return batch * self.n / max(float(self.seconds.sum()), 1e-12)


def time_calls(
    call: Callable[[], object], rounds: int, warmup: int = 10, limit: float = 10.0, settle: float = 0.0
) -> Timing:
    """Time `call` up to `rounds` times after up to `warmup` untimed calls; stop after about `limit` seconds.

    At least one call is a warm-up and three are timed, however long they take. The warm-up lasts at least `settle`
    seconds: a process whose caches others have emptied needs milliseconds, not calls, until it runs at its own speed.
    The garbage collector waits outside.
    """
    clock = time.perf_counter_ns
    started = clock()
    warm = 0
    while warm < max(warmup, 1) or clock() - started < settle * 1e9:
        call()
        warm += 1
        if clock() - started > limit * 0.25e9:
            break
    taken: list[int] = []
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(max(rounds, 3)):
            before = clock()
            call()
            after = clock()
            taken.append(after - before)
            if after - started > limit * 1e9 and len(taken) >= 3:
                break
    finally:
        if collecting:
            gc.enable()
    return Timing(np.array(taken, dtype=np.float64) / 1e9)


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Keep the calling thread, and those it starts, on `threads` physical cores, and let it go again afterwards.

    Yields the CPUs; an empty tuple where the system cannot pin or the process may use fewer cores than asked for.
    Other threads of the process (a progress bar) are left alone, so that they do not land on the measured core.
    """
    groups = environment.core_groups()
    if sys.platform != "linux" or threads > len(groups):
        yield ()
        return
    before = os.sched_getaffinity(0)
    chosen = tuple(group[0] for group in groups[:threads])
    try:
        os.sched_setaffinity(0, chosen)
        yield chosen
    finally:
        os.sched_setaffinity(0, before)
