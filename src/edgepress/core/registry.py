"""Registries: a decorated class or function registers itself, its folder is the list of its kind."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from edgepress.core.errors import UnknownNameError

T = TypeVar("T")
S = TypeVar("S")


class Registry(Generic[T]):
    """Names of one kind (models, data sets, stages ...) and what they stand for.

    `modules` are dotted names: a package is searched one level deep, a module is imported as it is. They are
    imported at the first look-up, not before, so that a light command pays for nothing it does not use.
    """

    def __init__(self, kind: str, modules: tuple[str, ...]) -> None:
        self.kind = kind
        self._modules = modules
        self._found: dict[str, T] = {}
        self._searched = False

    def register(self, name: str) -> Callable[[S], S]:
        """Register the decorated object under `name`; a second object of the same name is a programming error."""

        def add(item: S) -> S:
            if name in self._found and self._found[name] is not item:
                raise ValueError(f"two {self.kind}s are named {name!r}")
            self._found[name] = cast(T, item)  # the decorated thing keeps its own, narrower type
            return item

        return add

    def get(self, name: str) -> T:
        """Return what `name` stands for; raise `UnknownNameError` with the nearest name otherwise."""
        self._search()
        if name not in self._found:
            raise UnknownNameError(self.kind, name, self._found)
        return self._found[name]

    def name_of(self, item: T) -> str:
        """Return the name under which `item` is registered."""
        self._search()
        return next(name for name, found in self._found.items() if found is item)

    def __contains__(self, name: str) -> bool:
        self._search()
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        self._search()
        return iter(sorted(self._found))

    def _search(self) -> None:
        if self._searched:
            return
        self._searched = True
        for dotted in self._modules:
            module = importlib.import_module(dotted)
            for info in pkgutil.iter_modules(getattr(module, "__path__", [])):
                importlib.import_module(f"{dotted}.{info.name}")
