"""From the words of a recipe to an objective: `{dkd: {weight: 1, beta: 8}}`. Light: it runs without torch."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from edgepress.core.config import field_names, parse
from edgepress.core.errors import ConfigError, UnknownNameError, suggest
from edgepress.train.objectives.base import FeatureTerm, Objective, Term, objectives
from edgepress.train.objectives.kd import KD
from edgepress.train.objectives.supervised import Supervised

Entry = str | dict[str, Any]
"""A loss in a recipe: its name, or its name with its fields, `weight` among them."""
Weighted = tuple[str, float, Term]
PAPERS = {
    "fitnet": "hint", "fitnets": "hint", "at": "attention", "attentiontransfer": "attention", "ofd": "margin",
    "overhaul": "margin", "reviewkd": "review", "hinton": "kd", "similarity": "sp",
    "logitstandardization": "standardized", "lskd": "standardized", "tfkd": "virtual_teacher", "wsld": "weighted_kd",
    "cckd": "cc", "correlation": "cc", "channelwise": "cwd", "crossentropy": "supervised", "ce": "supervised",
}  # fmt: skip
"""What papers and other toolkits call the losses, in small letters."""
LABELS = "ce"
"""What the loss on the labels is called in logs."""


def term_of(entry: Entry, where: str) -> Term:
    """Return the loss that `entry` names; raise `ConfigError` with all its problems. It has no weight of its own."""
    name, fields = _opened(entry, where)
    if outside := [key for key in ("weight", "warmup") if key in fields]:
        raise ConfigError(f"{where} {name!r}: the {outside[0]} belongs to the loss around it")
    return parse(_found(name, where), fields, f"{where} {name!r}")


def read_terms(entries: Iterable[Entry], where: str = "field 'losses'") -> list[Weighted]:
    """Return (name, weight, loss) of every entry; raise `ConfigError` with the problems of all of them."""
    found: list[Weighted] = []
    problems: list[str] = []
    for entry in entries:
        try:
            term = _weighted(entry, where)
        except ConfigError as error:
            problems += error.problems
            continue
        if any(term[2] == other[2] for other in found):
            problems.append(
                f"{where}: {term[0]!r} is listed twice with the same fields; give one entry their weights' sum"
            )
        found.append(term)
    if problems:
        raise ConfigError(problems)
    return _named_apart(found)


def objective_of(terms: Iterable[Weighted], smoothing: float, labels: float = 1.0) -> Objective:
    """Return the objective of `terms` and, unless they name it, the loss on the labels at the weight `labels`; the
    latter smooths labels by `smoothing` where it says nothing else."""
    listed = list(terms)
    if any(isinstance(term, Supervised) for _, _, term in listed):
        return Objective(tuple((name, weight, _smoothed(term, smoothing)) for name, weight, term in listed))
    return Objective((*listed, (LABELS, labels, Supervised(smoothing))))


def method_terms(name: str, where: str = "field 'method'") -> tuple[list[Weighted], float]:
    """Return the loss `name` at the weight of its paper, and the weight of the labels beside it."""
    cls = _found(name, where)
    if not cls.needs_teacher:
        raise ConfigError(f"{where}: {name!r} does not learn from a teacher{suggest('', teaching())}")
    return [(name, cls.usual, cls())], cls.usual_labels


def kd_terms(temperature: float, alpha: float) -> tuple[list[Weighted], float]:
    """Return plain distillation as the fields `temperature` and `alpha` describe it."""
    return [("kd", alpha, KD(temperature))], 1.0 - alpha


def teaching() -> list[str]:
    """Return the names of the losses that learn from a teacher."""
    return [name for name in objectives if objectives.get(name).needs_teacher]


def without_teacher(terms: Iterable[Weighted]) -> list[str]:
    """Return a problem for every loss that needs a teacher, for a stage that has none."""
    free = [name for name in objectives if not objectives.get(name).needs_teacher]
    return [
        f"field 'losses': {name!r} needs a teacher, and this stage has none: use the stage 'distill', or one of "
        + ", ".join(free)
        for name, weight, term in terms
        if weight and term.needs_teacher
    ]


def features(terms: Iterable[Weighted]) -> list[str]:
    """Return the names of the losses that compare features."""
    return [name for name, weight, term in terms if weight and isinstance(term, FeatureTerm)]


def _smoothed(term: Term, smoothing: float) -> Term:
    plain = isinstance(term, Supervised) and not term.label_smoothing
    return replace(term, label_smoothing=smoothing) if plain else term


def _weighted(entry: Entry, where: str) -> Weighted:
    name, fields = _opened(entry, where)
    cls = _found(name, where)
    weight = fields.pop("weight", cls.usual)
    problems: list[str] = []
    try:
        weight = float(weight)
        if not 0 <= weight < float("inf"):
            raise ValueError
    except (TypeError, ValueError):
        problems.append(f"{where} {name!r}: field 'weight' must be a number, 0 or more, got {weight!r}")
    try:
        term = parse(cls, fields, f"{where} {name!r}")
    except ConfigError as error:
        raise ConfigError(problems + [_with_weight(p, cls) for p in error.problems]) from None
    if not 0 <= term.warmup < 1:
        problems.append(f"{where} {name!r}: field 'warmup' must be a share of the training, below 1, got {term.warmup}")
    if problems:
        raise ConfigError(problems)
    return (LABELS if cls is Supervised else name), weight, term


def _with_weight(problem: str, cls: type) -> str:
    """Let the nearest name be looked for among the fields and `weight`."""
    head, mark, given = problem.partition("unknown field ")
    if not mark:
        return problem
    name = given.split("'")[1]
    return f"{head}{mark}{name!r}{suggest(name, [*field_names(cls), 'weight'])}"


def _opened(entry: object, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        [(name, fields)] = cast("Mapping[Any, Any]", entry).items()
        if fields is None or isinstance(fields, Mapping):
            return str(name), dict(cast("Mapping[str, Any]", fields or {}))
    raise ConfigError(
        f"{where}: expected a loss, or one loss with its fields, such as {{dkd: {{weight: 1}}}}, got {entry!r}"
    )


def _found(name: str, where: str) -> type[Term]:
    try:
        return objectives.get(name)
    except UnknownNameError as error:
        if own := PAPERS.get(re.sub("[^a-z]", "", name.lower())):
            raise ConfigError(f"{where}: unknown objective {name!r}; it is called {own!r} here") from None
        raise ConfigError(f"{where}: {error}") from None


def _named_apart(terms: list[Weighted]) -> list[Weighted]:
    """Return `terms` with a number behind every name that is there already."""
    seen: dict[str, int] = {}
    apart: list[Weighted] = []
    for name, weight, term in terms:
        seen[name] = seen.get(name, 0) + 1
        apart.append((f"{name}_{seen[name]}" if seen[name] > 1 else name, weight, term))
    return apart
