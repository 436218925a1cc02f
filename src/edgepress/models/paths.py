"""Layers named by their path in a network, or by a glob."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from edgepress.core.errors import ConfigError, suggest


def matched(paths: Iterable[str], globs: Iterable[str], field: str) -> set[str]:
    """Return those of `paths` that one of `globs` matches; what lies below a module that matches counts, too.

    Raises `ConfigError` with the nearest path for a glob of the `field` that matches nothing.
    """
    known = list(paths)
    found: set[str] = set()
    for glob in globs:
        hits = {path for path in known if fnmatchcase(path, glob) or fnmatchcase(path, f"{glob}.*")}
        if not hits:
            raise ConfigError(f"{field}: no layer matches {glob!r}{suggest(glob, known)}")
        found |= hits
    return found
