"""The recipes that come with edgepress: beside the package in the repository, inside it once installed."""

from pathlib import Path

from edgepress.core.errors import ConfigError, suggest

_PACKAGE = Path(__file__).parent.parent


def shipped_recipes() -> dict[str, Path]:
    """Return the shipped recipe files by name, sorted."""
    # An installed wheel has the first; a checkout (and an editable install of it) the second.
    folder = next((f for f in (_PACKAGE / "_recipes", _PACKAGE.parent.parent / "recipes") if f.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def find_recipe(given: str) -> Path:
    """Return the file of the recipe `given`, a path or the name of a shipped one; raise `ConfigError` otherwise."""
    path, shipped = Path(given), shipped_recipes()
    if path.is_file():
        return path
    if given in shipped:
        return shipped[given]
    kind = "is a folder, not a recipe file" if path.is_dir() else "is neither a file nor a shipped recipe"
    raise ConfigError(f"recipe {given!r} {kind}{suggest(given, shipped)}")


def find_shipped(name: str) -> Path:
    """Return the file of the shipped recipe `name`; raise `ConfigError` otherwise."""
    shipped = shipped_recipes()
    if name not in shipped:
        raise ConfigError(f"there is no shipped recipe {name!r}{suggest(name, shipped)}")
    return shipped[name]


def summary(path: Path) -> str:
    """Return the first comment line of a recipe file, which says what it is for."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ").rstrip() for line in lines if line.startswith("#")), "")
