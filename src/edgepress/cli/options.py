"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

RUNS = "runs"


def runs_option(function: F) -> F:
    """Add `--runs DIR`, the folder of results, as the argument `runs`."""
    return click.option(
        "--runs",
        type=click.Path(file_okay=False, path_type=Path),
        default=RUNS,
        metavar="DIR",
        show_default=True,
        help="Folder of the results.",
    )(function)


def json_option(function: F) -> F:
    """Add the flag `--json` as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")(function)
