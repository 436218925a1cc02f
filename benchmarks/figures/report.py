"""`report`: how long a report of 200 rows takes to open in Chromium, and how large it is.

Opening is from the navigation to the last plot, on a cold page of a warm browser: the median of several.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.base import ROOT, Options
from edgepress.core.errors import EdgepressError
from edgepress.measure.bench_report import write_bench_report
from edgepress.measure.rows import Row

sys.path.insert(0, str(ROOT / "tests"))  # the matrix and the browser of the tests

from measure.benches import write_bench
from measure.browser import CHROMIUM, Browser

NETWORKS, THREADS = 6, 4


def measure(options: Options) -> list[Row]:
    """Return seconds until the page is there, seconds until it is drawn, and megabytes."""
    if CHROMIUM is None:
        raise EdgepressError("the figure `report` needs Chromium")
    times, first = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="edgepress-") as name:
        page = write_bench_report(write_bench(Path(name) / "store", blocks=THREADS, networks=NETWORKS))
        with Browser(Path(name) / "profile") as browser:
            browser.open(page)
            for _ in range(2 if options.quick else 9):
                times.append(browser.open(page))
                painted = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                first.append(browser.value(painted) / 1e3)
            rows = int(browser.value("document.querySelectorAll('#all tbody tr').length"))
            if browser.trouble:
                raise EdgepressError(f"the page makes trouble: {browser.trouble[0]}")
        megabytes = page.stat().st_size / 1e6
    about = {"n": len(times)}
    return [
        options.row("report", "open", statistics.median(times), "s", "lower", **about),
        options.row("report", "first_paint", statistics.median(first), "s", "lower", **about),
        options.row("report", "size", megabytes, "MB", "lower", n=rows),
    ]
