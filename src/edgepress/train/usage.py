"""What a training takes of the machine while it runs."""

import contextlib
import time
from typing import Any

import torch


class Usage:
    """Processor time and memory of this process, memory of the machine, and of the GPU where the network lies on one.

    Processor time is counted between two calls. Memory needs psutil; the share of a GPU that is busy needs its vendor's
    library (`pynvml`).
    """

    def __init__(self) -> None:
        self._process: Any = None
        with contextlib.suppress(ModuleNotFoundError):
            import psutil

            self._process = psutil.Process()
        self._then, self._busy = time.perf_counter(), time.process_time()

    def values(self) -> dict[str, float]:
        """Return percent (100: one processor; of memory: all of it) and megabytes by name."""
        # Not psutil's percent: it counts in ticks of 10 ms, and of two calls close together says more than there is.
        now, busy = time.perf_counter(), time.process_time()
        found = {"system/cpu_percent": 100 * (busy - self._busy) / max(now - self._then, 1e-9)}
        self._then, self._busy = now, busy
        if self._process is not None:
            import psutil

            found["system/memory_mb"] = self._process.memory_info().rss / 1e6
            found["system/machine_memory_percent"] = psutil.virtual_memory().percent
        if torch.cuda.is_available():
            found["system/gpu_memory_mb"] = torch.cuda.memory_allocated() / 1e6
            with contextlib.suppress(ModuleNotFoundError, RuntimeError):
                found["system/gpu_percent"] = float(torch.cuda.utilization())
        return found
