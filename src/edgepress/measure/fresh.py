"""`python -m edgepress.measure.fresh BUNDLE`: load a bundle, predict once, print what it took as JSON.

It runs in a process of its own, so that nothing but the model and its engine is in the figures.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path


def peak_rss_bytes() -> int:
    """Return the largest memory this process held at once.

    From `VmHWM`: a child's `ru_maxrss` starts at the size of the process that spawned it on Linux, which would bill a
    training for the device's memory. `ru_maxrss` (bytes on macOS, KiB elsewhere) serves where there is no /proc.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: list[str] | None = None) -> None:
    """Print `{"load": ms, "first_prediction": ms, "peak_rss": MB}`; times count from `--since`."""
    parser = argparse.ArgumentParser(prog="python -m edgepress.measure.fresh", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--since", type=int, default=0, help="time.monotonic_ns() at which the process was started")
    given = parser.parse_args(arguments)
    started = given.since or time.monotonic_ns()

    import numpy as np

    from edgepress.runtime import load
    from edgepress.runtime.bundle import read_manifest

    pipeline = load(given.bundle, threads=given.threads)
    loaded = time.monotonic_ns()
    size = read_manifest(given.bundle).input
    image = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)
    pipeline(image)
    answered = time.monotonic_ns()
    print(
        json.dumps(
            {
                "load": (loaded - started) / 1e6,
                "first_prediction": (answered - started) / 1e6,
                "peak_rss": peak_rss_bytes() / 1e6,
            }
        )
    )


if __name__ == "__main__":
    main()
