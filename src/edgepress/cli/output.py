"""What commands print: tables, facts in two columns, JSON. Only `show` needs rich, and imports it when called."""

import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType


def print_json(value: Any) -> None:
    """Print `value` as JSON on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def note(text: str) -> None:
    """Print a line that is not a result, on standard error."""
    click.echo(text, err=True)


def show(renderable: "RenderableType") -> None:
    """Print a rich renderable on standard output, in color on a terminal only."""
    from rich.console import Console

    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    text = io.StringIO()
    width = shutil.get_terminal_size(fallback=(100, 24)).columns
    Console(file=text, width=width, force_terminal=color, highlight=False).print(renderable)
    # Through click, so that a closed pipe is one kind of error wherever it happens.
    click.echo("\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").split("\n")))


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = (), gap: int = 2) -> None:
    """Print `rows` under `headings`, `gap` spaces between columns; those named in `right` are aligned there.

    Where the terminal is too narrow the first and the last column are folded.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        side = "right" if heading in right else "left"
        table.add_column(heading, justify=side, overflow="fold", no_wrap=0 < number < len(headings) - 1)
    for cells in rows:
        table.add_row(*(Text(cell) for cell in cells))  # Text: a folder's name is not markup
    show(table)


def show_facts(facts: Mapping[str, str]) -> None:
    """Print names and values in two columns, long values folded under their own column; empty ones are left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    show(table)


def pairs(values: Mapping[str, Any]) -> str:
    """Return `{"epochs": 5, "augment": {"pad": 1}}` as "epochs 5, augment (pad 1)"; what is empty is left out."""
    return ", ".join(f"{name} {_word(value)}" for name, value in values.items() if value not in (None, "", {}, []))


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({pairs(value)})"
    if isinstance(value, list | tuple):
        return "; ".join(_word(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def heading(text: str) -> None:
    """Print a heading, bold on a terminal."""
    click.echo(click.style(text, bold=True))


def duration(seconds: float) -> str:
    """Return seconds as "4.2 s", "38 s", "12 min" or "3 h 05 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def when(date: str) -> str:
    """Return an ISO 8601 date as "2026-01-31 13:05"."""
    return date[:16].replace("T", " ")
