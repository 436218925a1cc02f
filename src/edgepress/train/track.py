"""Who is told of a training, and of what: the `track` of a recipe. It changes no result and enters no key."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgepress.core.config import STRICT, parse
from edgepress.core.errors import ConfigError, UnknownNameError
from edgepress.train.trackers.base import Tracker, trackers


@dataclass(frozen=True)
class Track:
    """`to` names trackers, each with its fields where need be: `[tensorboard, {wandb: {mode: online}}]`.

    They get the losses, the learning rate, the speed and what the machine is busy with every `every` steps, and the
    scores after each epoch. `layers` are modules (paths or globs) whose activations are shown as images, `samples` the
    number of validation images shown with what the network says of them: after every `epochs` epochs (0: never), and
    after the steps `at`.
    """

    __pydantic_config__ = STRICT

    to: tuple[str | dict[str, Any], ...] = ()
    every: int = 20
    layers: tuple[str, ...] = ()
    samples: int = 8
    epochs: int = 1
    at: tuple[int, ...] = ()

    def named(self) -> dict[str, Tracker]:
        """Return the trackers by name; raise `ConfigError` with everything that is wrong with them."""
        found: dict[str, Tracker] = {}
        problems: list[str] = []
        for entry in self.to:
            given = {entry: {}} if isinstance(entry, str) else entry
            if len(given) != 1:
                problems.append(f"track: expected a name, or one name with its fields, got {entry!r}")
                continue
            [(name, fields)] = given.items()
            try:
                found[name] = parse(trackers.get(name), fields or {}, f"track: {name!r}")
            except UnknownNameError as error:
                problems.append(f"track: {error}")
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        return found

    def with_names(self, names: str) -> "Track":
        """Return the same with the trackers that `names` ("tensorboard,wandb") adds; one that is there keeps its
        fields."""
        there = [entry if isinstance(entry, str) else next(iter(entry), "") for entry in self.to]
        more = [name for name in (part.strip() for part in names.split(",")) if name and name not in there]
        return replace(self, to=(*self.to, *dict.fromkeys(more)))


def read_track(value: Any, where: str = "track") -> Track:
    """Return what the plain value of a recipe's `track` stands for: a name, a list, or a mapping with `to`.

    Raises `ConfigError` with everything that is wrong with it.
    """
    if value is None:
        return Track()
    if isinstance(value, str):
        return _checked(Track().with_names(value), where)
    return _checked(parse(Track, value if isinstance(value, Mapping) else {"to": value}, where), where)


def _checked(track: Track, where: str) -> Track:
    ranges = [
        ("every", track.every >= 1, "at least 1"),
        ("samples", track.samples >= 0, "0 or more"),
        ("epochs", track.epochs >= 0, "0 or more"),
        ("at", all(step >= 1 for step in track.at), "steps from 1 on"),
    ]
    wrong = [f"{where}: field {name!r} must be {range_}" for name, ok, range_ in ranges if not ok]
    try:
        track.named()
    except ConfigError as error:
        wrong += error.problems
    if wrong:
        raise ConfigError(wrong)
    return track
