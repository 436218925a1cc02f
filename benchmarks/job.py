"""`python -m benchmarks.job RECIPE --runs FOLDER [--set a.b=c] [--until NAME] [--smoke]`: run a recipe, waiting for
its turn where another job works on a stage that both need."""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from edgepress.core.errors import BusyError, EdgepressError
from edgepress.recipes.recipe import Recipe, read_recipe
from edgepress.recipes.runner import Options, Result, run, smoke

T = TypeVar("T")


class Lines:
    """A `Progress` for log files: one line per event, none per step."""

    def __init__(self) -> None:
        self._status = ""

    def track(self, steps: Iterable[T], total: int, label: str) -> Iterable[T]:
        """Yield from `steps`; print how it went at the end."""
        begin = time.monotonic()
        self._status = ""
        yield from steps
        print(f"  {label}: {time.monotonic() - begin:.1f} s  {self._status}", flush=True)

    def status(self, text: str) -> None:
        """Keep `text` for the line at the end."""
        self._status = text

    def say(self, text: str) -> None:
        """Print `text`."""
        print(text, flush=True)


def recipe(path: Path, sets: Sequence[str], trial: bool) -> Recipe:
    """Return the recipe to run; a `trial` is its smoke version."""
    found = read_recipe(path, sets)
    return smoke(found) if trial else found


def toward(whole: Recipe, labels: Sequence[str]) -> Recipe:
    """Return `whole` without the steps that neither are `labels` nor are needed by them; raise `UnknownNameError` for a
    label that it does not have.

    It has a name of its own: what two processes make of one recipe need not wait for each other.
    """
    steps = whole.needed(labels)
    return replace(whole, steps=steps, name=f"{whole.name}-{steps[-1].label}") if steps != whole.steps else whole


def patiently(wanted: Recipe, runs: Path, options: Options, seconds: float = 2.0) -> Result:
    """Run `wanted`; while another process holds a stage it needs, wait and try again."""
    while True:
        try:
            return run(wanted, runs, Lines(), options)
        except BusyError as error:
            print(f"waiting: {error}", flush=True)
            time.sleep(seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe of the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--until")
    parser.add_argument("--command", default="", help="what the rows name as their command")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args(arguments)
    try:
        wanted = recipe(given.recipe, given.sets, given.smoke)
        patiently(wanted, given.runs, Options(until=given.until, command=given.command))
    except EdgepressError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
