"""Progress at a terminal: a bar that appears when something takes long, or plain lines where nobody watches live."""

import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click

from edgepress.cli.output import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds of silence before anything is shown: what is done by then needs no bar."""

EVERY = 30.0
"""Seconds between two lines where the output is not a terminal."""

_SERIES = re.compile(r"(.*?)(\d+)/(\d+)")


@dataclass
class _Loop:
    label: str
    total: int
    began: float
    done: int = 0


class TerminalProgress:
    """A `core.stage.Progress` that writes to standard error. Use it in a `with` block, which clears the bar at its end.

    Loops may be nested: each has its bar. A label that ends in "3/40" is one loop of a series, and the time left is
    told for all of them. What `status` says between two loops (an epoch's scores) stays in sight under the next bar.
    """

    def __init__(self, live: bool | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._live = sys.stderr.isatty() if live is None else live
        self._clock = clock
        self._loops: list[_Loop] = []
        self._series: dict[str, tuple[int, float]] = {}
        self._status = self._summary = self._last_label = ""
        self._heard = clock()
        self._display: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def track(self, steps: Iterable[T], total: int, label: str) -> Iterable[T]:
        """Yield from `steps` under a bar, once they take long enough for one."""
        loop = _Loop(label, total, self._clock())
        self._loops.append(loop)
        match = _SERIES.fullmatch(label)
        if match:
            self._series.setdefault(match[1] + match[3], (int(match[2]) - 1, loop.began))
        try:
            for step in steps:
                yield step
                loop.done += 1
                self._tick()
        finally:
            self._loops.remove(loop)
            self._last_label = label
            if not self._loops and not (match and int(match[2]) < int(match[3])):
                self._clear()

    def status(self, text: str) -> None:
        """Show `text` beside the current bar or, between two loops, under the next one."""
        if self._loops:
            self._status = text
        else:
            self._summary, self._status = f"{self._last_label}: {text}", ""

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        click.echo(text, err=True)
        self._series.clear()
        self._status = self._summary = ""
        self._heard = self._clock()

    def lines(self) -> list[tuple[str, float, str]]:
        """Return of each loop in progress its label, the share done, and what else is known in words."""
        found: list[tuple[str, float, str]] = []
        for loop in self._loops:
            share = min(loop.done / loop.total, 1.0) if loop.total else 1.0
            left = self._left(loop, share)
            words = f"{duration(left)} left" if left is not None else ""
            inner = loop is self._loops[-1]
            found.append((loop.label, share, "  ".join(w for w in (words, self._status if inner else "") if w)))
        return found

    def _left(self, loop: _Loop, share: float) -> float | None:
        now, match = self._clock(), _SERIES.fullmatch(loop.label)
        if not match:
            return (now - loop.began) / share * (1 - share) if share else None
        first, began = self._series[match[1] + match[3]]
        done = int(match[2]) - 1 + share
        return (now - began) / (done - first) * (int(match[3]) - done) if done > first else None

    def _tick(self) -> None:
        silent = self._clock() - self._heard
        if self._live:
            if silent >= PATIENCE and self._display is None:
                self._start()
        elif silent >= EVERY:
            label, share, words = self.lines()[-1]
            click.echo("  ".join(part for part in (f"  {label}, {share:.0%}", words) if part), err=True)
            self._heard = self._clock()

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False)
        self._display = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._display.start()

    def _clear(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def _render(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        for label, share, words in self.lines():
            grid.add_row(Text(f"  {label}", no_wrap=True), ProgressBar(1.0, share, width=20), Text(words, no_wrap=True))
        summary = [Text(f"  {self._summary}", style="dim", no_wrap=True, overflow="ellipsis")] if self._summary else []
        return Group(grid, *summary)
