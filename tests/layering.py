"""Reading the house from its source: which room a module belongs to, what it imports, what it must not write.

Only the syntax tree is read; nothing is imported.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEVELS = (
    ("core",),
    ("tasks", "models", "data"),
    ("runtime",),
    ("deploy",),
    ("export",),
    ("cost",),
    ("train", "prune", "factorize", "quantize", "search"),
    ("chain",),
    ("measure",),
    ("recipes",),
    ("cli",),
)
"""The rooms, lowest first. An import points to the own room or to a lower level, never sideways."""

RANK = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
LIGHT_ROOMS = {"", "core", "runtime", "tasks", "data", "deploy", "measure", "recipes", "cli"}
BASE_MODULES = {"click", "numpy", "onnxruntime", "PIL", "pydantic", "rich"}
"""The import names of the base dependencies in pyproject.toml."""


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, the line, and whether it happens while the importing module loads."""

    module: str
    line: int
    at_load: bool


@dataclass(frozen=True)
class Source:
    """One parsed file of the package; `module` is its dotted name (`edgepress.core.files`)."""

    path: Path
    module: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The room it lies in; empty for the package's own `__init__`."""
        return room_of(self.module)

    @property
    def must_be_light(self) -> bool:
        """True where the module must be importable on the base install."""
        return self.room in LIGHT_ROOMS or self.path.name in ("stages.py", "__init__.py")


def room_of(module: str) -> str:
    """Return the room of a dotted name below `edgepress`."""
    return module.removeprefix("edgepress").lstrip(".").split(".")[0]


def read_sources(folder: Path) -> list[Source]:
    """Return every module of the package in `folder` (`src/edgepress`)."""
    sources: list[Source] = []
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources.append(Source(path, module, ast.parse(path.read_text(encoding="utf-8"), str(path))))
    return sources


def imports(tree: ast.AST, modules: set[str], at_load: bool = True) -> Iterator[Import]:
    """Yield the imports below `tree`, those inside functions too, those for type checkers only not.

    `modules` are the package's own names: `from a import b` imports the module `a.b` where there is one, else `a`.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield Import(name if name in modules else base, node.lineno, at_load)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from imports(ast.Module([other], []), modules, at_load)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, modules, at_load and not inside)


def upward(source: Source, modules: set[str]) -> list[str]:
    """Return the imports of `source` that do not point downwards."""
    wrong: list[str] = []
    for found in imports(source.tree, modules):
        if found.module.startswith("."):
            wrong.append(f"{source.module}:{found.line} relative import {found.module}")
        elif found.module.split(".")[0] == "edgepress" and source.room:
            room = room_of(found.module)
            if room == source.room:
                continue
            if not room or RANK[room] >= RANK[source.room]:
                wrong.append(f"{source.module}:{found.line} imports {found.module}")
    return wrong


def heavy(source: Source, modules: set[str], light: set[str]) -> list[str]:
    """Return what `source` imports while loading that is neither in the base install nor among our `light` modules."""
    allowed = BASE_MODULES | set(sys.stdlib_module_names)
    wrong: list[str] = []
    for found in imports(source.tree, modules):
        top = found.module.split(".")[0]
        fits = found.module in light if top == "edgepress" else top in allowed
        if found.at_load and not fits:
            wrong.append(f"{source.module}:{found.line} imports {found.module} at module level")
    return wrong


def light_modules(sources: list[Source]) -> set[str]:
    """Return the modules that load on the base install, themselves and all they import while loading."""
    modules = {source.module for source in sources}
    light, before = set(modules), 0
    while len(light) != before:
        before = len(light)
        light = {source.module for source in sources if source.module in light and not heavy(source, modules, light)}
    return light


def unsafe(tree: ast.AST) -> list[str]:
    """Return what is written in `tree` that may run foreign code or hide a fault."""
    wrong: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            reason = _unsafe_call(node)
        elif isinstance(node, ast.ImportFrom) and node.module in ("pickle", "cloudpickle", "dill"):
            names = {alias.name for alias in node.names} & {"load", "loads"}
            reason = f"{node.module}.load" if names else None
        elif isinstance(node, ast.ExceptHandler):
            reason = "a broad except" if _is_broad(node.type) else None
        else:
            continue
        if reason:
            wrong.append(f"line {node.lineno}: {reason}")
    return wrong


def _unsafe_call(node: ast.Call) -> str | None:
    name = ast.unparse(node.func)
    values = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in {f"{module}.{verb}" for module in ("pickle", "cloudpickle", "dill") for verb in ("load", "loads")}:
        return f"{name} runs whatever the file says"
    if name == "pickle.Unpickler":
        return "a bare pickle.Unpickler runs whatever the file says"
    if name == "torch.load" and values.get("weights_only") != "True":
        return "torch.load without weights_only=True"
    if values.get("allow_pickle") == "True":
        return f"{name} with allow_pickle=True"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load") and "Safe" not in values.get("Loader", ""):
        return f"{name} builds whatever the file says"
    if name in ("joblib.load", "eval", "exec"):
        return name
    if name.endswith("suppress") and any(_is_broad(argument) for argument in node.args):
        return "a broad suppress"
    return None


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(ast.unparse(k) in ("Exception", "BaseException") for k in kinds)
