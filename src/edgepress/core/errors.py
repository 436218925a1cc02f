"""Every error a user can meet, and the words that help mend it.

The command line turns an `EdgepressError` into one message and the exit code of its class; any other
exception is a bug of ours and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class EdgepressError(Exception):
    """Base of all errors that edgepress raises on purpose."""

    exit_code = 1


class ConfigError(EdgepressError):
    """A recipe, a stage or an option is wrong. Holds every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class UnknownNameError(ConfigError):
    """A name that no registry entry or earlier stage carries."""

    def __init__(self, kind: str, given: str, allowed: Iterable[str]) -> None:
        self.kind, self.given = kind, given
        super().__init__(f"unknown {kind} {given!r}{suggest(given, allowed)}")


class DataError(EdgepressError):
    """A data set that is absent, empty, damaged or too large to be safe."""

    exit_code = 3


class BundleError(EdgepressError):
    """A bundle or saved model that is damaged, unsafe or of a version this edgepress cannot read."""

    exit_code = 4


class MissingExtraError(EdgepressError):
    """An optional dependency is not installed."""

    exit_code = 5

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an extra that is not installed: pip install 'edgepress[{extra}]'")


class TrainingError(EdgepressError):
    """Training cannot go on, for example because the loss is no longer finite."""

    exit_code = 6


class ParityError(EdgepressError):
    """An exported file does not compute what the network it came from computes."""

    exit_code = 7


class BusyError(EdgepressError):
    """Another process holds the run folder."""

    exit_code = 8


def suggest(given: str, allowed: Iterable[str], most: int = 12) -> str:
    """Return the end of an error message: the nearest allowed name, or all of them where they are few."""
    names = sorted(set(allowed))
    close = get_close_matches(given, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    if not names:
        return "; there are none here"
    shown = ", ".join(names[:most])
    return f"; allowed: {shown}" + (f" and {len(names) - most} more" if len(names) > most else "")
