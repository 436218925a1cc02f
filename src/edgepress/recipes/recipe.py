"""Recipe files: the plain image of the stages' dataclasses, read strictly and all at once."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepress.core.config import dump, field_names, parse, short
from edgepress.core.errors import ConfigError, MissingExtraError, UnknownNameError, suggest
from edgepress.core.stage import Stage, stages
from edgepress.data.base import DataSource, datasets
from edgepress.measure.base import Measure, measures
from edgepress.recipes.repeat import WORD, unrolled
from edgepress.train.track import Track, read_track

FIELDS = ("name", "data", "seed", "stages", "measure", "track")
LABEL = re.compile(r"\w[\w.-]{0,99}")
DEEPEST, MOST_SEED = 32, 2**63
"""Levels of a recipe, and what PyTorch's generators take."""
STEP_FIELDS = ("name", "input", "seed")


@dataclass(frozen=True)
class Step:
    """A stage at its place in a recipe. `label` names it for people and for `$label`; it never enters a key.

    `input` is the label of the step whose artifact it goes on from, None where it starts from nothing.
    """

    label: str
    stage: Stage
    input: str | None
    seed: int

    @property
    def kind(self) -> str:
        """The registered name of the stage."""
        return stages.name_of(type(self.stage))

    def references(self) -> dict[str, str]:
        """Return the labels its `$label` fields point at, by field; those of a list by field and number."""
        named: dict[str, str] = {}
        for f in type(self.stage).references:
            value = getattr(self.stage, f)
            each = {f: value} if isinstance(value, str | None) else {f"{f}.{n}": label for n, label in enumerate(value)}
            named |= {name: label.removeprefix("$") for name, label in each.items() if label}
        return named

    def sources(self) -> list[str]:
        """Return the labels of all steps whose artifacts it is given."""
        return [*self.references().values(), *([self.input] if self.input else [])]


@dataclass(frozen=True)
class Recipe:
    """What to compute, on which data, and what to measure of it."""

    name: str
    source: DataSource
    seed: int
    steps: tuple[Step, ...]
    measures: tuple[Measure, ...]
    track: Track = field(default_factory=Track)

    def step(self, label: str) -> Step:
        """Return the step of that label; raise `UnknownNameError` with the nearest one otherwise."""
        for step in self.steps:
            if step.label == label:
                return step
        raise UnknownNameError("stage", label, [s.label for s in self.steps])

    def needed(self, labels: Sequence[str]) -> tuple[Step, ...]:
        """Return the steps of those labels and all that they are made from, in the order of the recipe; raise
        `UnknownNameError` for a label that it does not have."""
        wanted = {self.step(label).label for label in labels}
        for step in reversed(self.steps):
            if step.label in wanted:
                wanted |= set(step.sources())
        return tuple(step for step in self.steps if step.label in wanted)


def read_recipe(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """Return the recipe in the YAML file `path`, changed by `sets` ("student.epochs=5").

    Raises `ConfigError` with every problem of the file.
    """
    return parse_recipe(_overridden(load_yaml(path), sets, str(path)), str(path))


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in `path`. Plain YAML only: tags, anchors and aliases are refused."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: a recipe is a mapping with the keys {', '.join(FIELDS)}")
    return value


def parse_yaml(text: str, where: str) -> Any:
    """Return what `text` says in plain YAML: tags, anchors and aliases are refused. Raises `ConfigError`, which begins
    with `where`."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingExtraError("reading recipes", "train") from None
    try:
        _check_plain(yaml.parse(text, Loader=yaml.SafeLoader), where)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # the second for numbers and dates that Python refuses
        raise ConfigError(f"{where}: not valid YAML: {error}") from None


def _check_plain(events: Iterable[Any], where: str) -> None:
    """Raise `ConfigError` for tags, anchors and aliases, for more than `DEEPEST` levels, and for a key that occurs
    twice in one mapping or is no word."""
    import yaml

    keys: list[set[str] | None] = []
    at_key: list[bool] = []
    for event in events:
        place = f"{where}: line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or _tagged(event):
            raise ConfigError(f"{place}: no tags, anchors or aliases are allowed")
        if isinstance(event, yaml.CollectionEndEvent):
            keys.pop()
            at_key.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if keys and keys[-1] is not None:
            if at_key[-1]:
                if not isinstance(event, yaml.ScalarEvent):
                    raise ConfigError(f"{place}: a key is a word")
                if event.value in keys[-1]:
                    raise ConfigError(f"{place}: {short(event.value)} is said twice; leave one of them out")
                keys[-1].add(event.value)
            at_key[-1] = not at_key[-1]
        if isinstance(event, yaml.CollectionStartEvent):
            if len(keys) >= DEEPEST:
                raise ConfigError(f"{place}: nested more than {DEEPEST} levels deep")
            keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
            at_key.append(True)


def _tagged(event: Any) -> bool:
    return bool(getattr(event, "tag", None))


def _overridden(value: dict[str, Any], sets: Sequence[str], where: str) -> dict[str, Any]:
    value = json.loads(json.dumps({str(key): part for key, part in value.items()}, default=str))
    for text in sets:
        path, equals, raw = text.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set {text!r}: write it as name.field=value")
        _assign(value, path.split("."), parse_yaml(raw, f"--set {text!r}"), text, where)
    return value


def _assign(value: dict[str, Any], path: list[str], new: Any, text: str, where: str) -> None:
    if path[0] in FIELDS and path[0] not in ("stages", "measure"):
        target, rest = value, path
    else:
        target, rest = _step_fields(value, path[0], text), path[1:]
    if not rest:
        raise ConfigError(f"--set {text!r}: name a field of the stage too, as in {path[0]}.epochs=5")
    for part in rest[:-1]:
        if target.get(part) is None:
            target[part] = {}
        target = target[part]
        if not isinstance(target, dict):
            raise ConfigError(f"--set {text!r}: {part!r} of {where} is not a mapping")
    target[rest[-1]] = new


def _step_fields(value: dict[str, Any], label: str, text: str) -> dict[str, Any]:
    labels: list[str] = []
    fields = _named(value.get("stages"), label, labels)
    if fields is None:
        raise ConfigError(f"--set {text!r}: no stage is named {label!r}{suggest(label, labels)}")
    return fields


def _named(entries: Any, label: str, labels: list[str]) -> dict[str, Any] | None:
    """Return the fields of the stage `label` among `entries`, those of repetitions too; collect the names passed."""
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        kind, fields = _entry(entry)
        if kind is None or not isinstance(fields, dict):
            continue
        entries[number] = {kind: fields}
        labels.append(str(fields.get("name", kind)))
        if labels[-1] == label:
            return fields
        inner = _named(fields.get("stages"), label, labels) if kind == WORD else None
        if inner is not None:
            return inner
    return None


def parse_recipe(value: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Return the recipe that the plain mapping `value` describes; raise `ConfigError` with all its problems."""
    problems = [f"{where}: unknown key {key!r}{suggest(str(key), FIELDS)}" for key in value if key not in FIELDS]
    name = value.get("name")
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_." for c in name) or name[0] == ".":
        problems.append(f"{where}: 'name' must be letters, digits, '-', '_' and '.', got {name!r}")
    seed = _collect(problems, lambda: _seed(value.get("seed", 0), where)) or 0
    source = _collect(problems, lambda: _one(value.get("data"), datasets, f"{where}: data"))
    steps = _steps(value.get("stages"), seed, where, problems)
    wanted = value.get("measure", ["quality", "size"])
    found = [
        _collect(problems, lambda entry=entry: _one(entry, measures, f"{where}: measure"))
        for entry in (wanted if isinstance(wanted, list) else [wanted])
    ]
    track = _collect(problems, lambda: read_track(value.get("track"), f"{where}: track"))
    if problems or source is None:
        raise ConfigError(problems or f"{where}: 'data' is missing")
    return Recipe(str(name), source, seed, steps, tuple(m for m in found if m is not None), track)


def _collect(problems: list[str], make: Any) -> Any:
    try:
        return make()
    except ConfigError as error:
        problems += error.problems
        return None


def _one(entry: Any, registry: Any, where: str) -> Any:
    """Return what `name` or `{name: fields}` stands for in `registry`."""
    name, fields = _entry(entry)
    if name is None:
        raise ConfigError(f"{where}: expected a name, or one name with its fields, got {entry!r}")
    try:
        cls = registry.get(name)
    except UnknownNameError as error:
        raise ConfigError(f"{where}: {error}") from None
    return parse(cls, fields, f"{where} {name!r}")


def _entry(entry: Any) -> tuple[str | None, Any]:
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, Mapping) and len(entry) == 1:
        [(name, fields)] = entry.items()
        return str(name), {} if fields is None else fields
    return None, None


def _steps(entries: Any, seed: int, where: str, problems: list[str]) -> tuple[Step, ...]:
    if not isinstance(entries, list) or not entries:
        problems.append(f"{where}: 'stages' must be a list of at least one stage")
        return ()
    try:
        entries = unrolled(entries, where)
    except ConfigError as error:
        problems += error.problems
        return ()
    steps: list[Step] = []
    gives: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        place = f"{where}: stage {number}"
        kind, fields = _entry(entry)
        if kind is None or not isinstance(fields, Mapping):
            problems.append(f"{place}: expected 'kind: {{fields}}', got {entry!r}")
            continue
        label = fields.get("name", kind)
        place = f"{where}: stage {short(label)}"
        if not isinstance(label, str) or not LABEL.fullmatch(label):
            problems.append(f"{place}: a name is letters, digits, '-', '_' and '.'")
            continue
        if label in gives:
            problems.append(f"{place}: another stage has this name; give one of them a 'name' of its own")
        step = _collect(problems, lambda a=(kind, label, fields, seed, gives, place): _step(*a))
        # A stage that could not be read still has a name, so that later `$name`s are not reported on top.
        gives[label] = type(step.stage).gives if step else "anything"
        if step:
            steps.append(step)
    return tuple(steps)


def _step(
    kind: str,
    label: str,
    fields: Mapping[str, Any],
    seed: int,
    gives: dict[str, str],
    place: str,
) -> Step:
    try:
        cls = stages.get(kind)
    except UnknownNameError as error:
        raise ConfigError(f"{place}: {error}") from None
    own = {k: v for k, v in fields.items() if k not in STEP_FIELDS}
    try:
        stage = parse(cls, own, place)
    except ConfigError as error:
        raise ConfigError([_widen(p, cls) for p in error.problems]) from None
    source = str(fields.get("input", next(reversed(gives), ""))).removeprefix("$")
    step = Step(label, stage, source if stage.wants_input() else None, _seed(fields.get("seed", seed), place))
    wrong = [f"{place}: {problem}" for problem in stage.check()]
    wrong += [
        f"{place}: field {f!r} refers to {ref!r}, which is no earlier stage{suggest(ref, gives)}"
        for f, ref in step.references().items()
        if ref not in gives
    ]
    wrong += [
        f"{place}: field {f!r} refers to {ref!r}, which gives a program; name the network it came from"
        for f, ref in step.references().items()
        if gives.get(ref) == "program"
    ]
    wrong += _wrong_input(step, fields, gives, place)
    if wrong:
        raise ConfigError(wrong)
    return step


def _seed(value: Any, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST_SEED:
        raise ConfigError(f"{place}: 'seed' must be a whole number from 0 to below 2^63, got {short(value)}")
    return value


def _wrong_input(step: Step, fields: Mapping[str, Any], gives: dict[str, str], place: str) -> list[str]:
    takes = type(step.stage).takes
    if step.input is None:
        return [f"{place}: it starts from nothing, so 'input' has no meaning"] if "input" in fields else []
    if not step.input:
        return [f"{place}: needs a {takes} to work on, and no stage comes before it"]
    if step.input not in gives:
        return [
            f"{place}: field 'input' refers to {step.input!r}, which is no earlier stage{suggest(step.input, gives)}"
        ]
    if gives[step.input] not in (takes, "anything"):
        return [f"{place}: needs a {takes}, but stage {step.input!r} gives a {gives[step.input]}; choose it by 'input'"]
    return []


def _widen(problem: str, cls: type[Stage]) -> str:
    # The stage's own parser does not know the fields that belong to every step.
    head, mark, given = problem.partition("unknown field ")
    if not mark:
        return problem
    name = given.split("'")[1]
    return f"{head}{mark}{name!r}{suggest(name, [*field_names(cls), *STEP_FIELDS])}"


def dump_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved recipe as plain values: all defaults written out; `parse_recipe` is its inverse."""
    steps = []
    for step in recipe.steps:
        own = {"name": step.label, "seed": step.seed} | ({"input": step.input} if step.input else {})
        steps.append({step.kind: own | dump(step.stage)})
    return {
        "name": recipe.name,
        "data": {datasets.name_of(type(recipe.source)): dump(recipe.source)},
        "seed": recipe.seed,
        "stages": steps,
        "measure": [{measures.name_of(type(m)): dump(m)} for m in recipe.measures],
        **({"track": dump(recipe.track)} if recipe.track.to else {}),
    }
