"""`repeat`: stages done several times, on a schedule. It is written out before a recipe is read, so that the runner
keeps the result of every step, as of any other stage, and goes on where it was stopped.

    - repeat:
        times: 3
        stages:
          - prune:   {name: thinner, budget: {macs: 20000000}}
          - distill: {name: student, teacher: $teacher, epochs: 5}

becomes `thinner-1`, `student-1`, `thinner-2`, `student-2`, `thinner`, `student`: the last round has the plain names.
Where a stage has a schedule, it is filled in: of `fraction` each round takes an equal part of the way to the budget
(1/3, then 1/2 of what is left, then all of it: for `prune` and `factorize`, whose `speedup` becomes what is left of
it), and `step` of `steps` counts (for `sparsify`, with `keep_zeros: true` in the training behind it). What is given is
left alone.
"""

from collections.abc import Mapping
from typing import Any

from edgepress.core.config import field_names
from edgepress.core.errors import ConfigError, suggest
from edgepress.core.stage import stages

WORD = "repeat"
FIELDS = ("times", "stages")


def unrolled(entries: list[Any], where: str) -> list[Any]:
    """Return the entries of a recipe's `stages` with every `repeat` written out.

    Raises `ConfigError` with all that is wrong with the repetitions; what is wrong with a stage is told later.
    """
    found: list[Any] = []
    problems: list[str] = []
    for entry in entries:
        if not (isinstance(entry, Mapping) and list(entry) == [WORD]):
            found.append(entry)
            continue
        wrong = _problems(entry[WORD])
        problems += [f"{where}: repeat: {problem}" for problem in wrong]
        if not wrong:
            found += _rounds(entry[WORD])
    if problems:
        raise ConfigError(problems)
    return found


def _problems(value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"expected times and stages, got {value!r}"]
    wrong = [f"unknown key {key!r}{suggest(str(key), FIELDS)}" for key in value if key not in FIELDS]
    times, inner = value.get("times"), value.get("stages")
    if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= 100:
        wrong.append(f"'times' must be a whole number from 1 to 100, got {times!r}")
    if not isinstance(inner, list) or not inner:
        return [*wrong, "'stages' must be a list of at least one stage"]
    for entry in inner:
        if not ((isinstance(entry, Mapping) and len(entry) == 1) or isinstance(entry, str)):
            wrong.append(f"expected 'kind: {{fields}}', got {entry!r}")
        elif entry == WORD or (isinstance(entry, Mapping) and WORD in entry):
            wrong.append("a repetition within a repetition is not possible: multiply 'times'")
    return wrong


def _rounds(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    times = value["times"]
    return [_entry(entry, round_, times, first=not place)
            for round_ in range(1, times + 1) for place, entry in enumerate(value["stages"])]  # fmt: skip


def _entry(entry: Any, round_: int, times: int, first: bool) -> dict[str, Any]:
    """Return one stage of one round: its own name, its place on the schedule, and no second start."""
    [(kind, given)] = ((entry, {}),) if isinstance(entry, str) else entry.items()
    if not isinstance(given, Mapping | None):
        return {kind: given}
    fields = dict(given or {})
    name = str(fields.get("name", kind))
    fields["name"] = name if round_ == times else f"{name}-{round_}"
    if first and round_ > 1:
        fields.pop("input", None)  # the first round starts there, the others go on
    own = field_names(stages.get(kind)) if kind in stages else []
    if "fraction" in own and "budget" in fields and "fraction" not in fields:
        fields |= {"fraction": 1 / (times - round_ + 1), "budget": _left(fields["budget"], round_, times)}
    if {"step", "steps"} <= set(own) and not {"step", "steps"} & set(fields):
        fields |= {"step": round_, "steps": times}
    return {str(kind): fields}


def _left(budget: Any, round_: int, times: int) -> Any:
    """Return `budget` with the part of a `speedup` that is left for the rounds from this one on: the rounds before have
    each taken an equal part of the milliseconds."""
    if not isinstance(budget, Mapping) or not isinstance(budget.get("speedup"), int | float):
        return budget
    speedup = budget["speedup"]
    return {**budget, "speedup": speedup * (1 - (1 - 1 / speedup) * (round_ - 1) / times)} if speedup > 1 else budget
