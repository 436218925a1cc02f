"""What a search may choose from: networks by name and values of their arguments. Light."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgepress.core.config import STRICT

MOST = 1_000_000


@dataclass(frozen=True)
class Candidate:
    """One network: a name and arguments, as a `train` stage takes them."""

    __pydantic_config__ = STRICT

    model: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def word(self) -> str:
        """Name and arguments on one line; equal for equal candidates only."""
        shown = ", ".join(f"{k} {json.dumps(v)}" for k, v in sorted(self.arguments.items()))
        return f"{self.model} ({shown})" if shown else self.model


@dataclass(frozen=True)
class Space:
    """All combinations of a network out of `models` with one value of each argument in `values`."""

    models: tuple[str, ...]
    values: Mapping[str, tuple[Any, ...]]

    def problems(self) -> list[str]:
        """Return what is wrong with it."""
        wrong = [] if self.models else ["models: name at least one network"]
        wrong += [f"space: argument {name!r} has no values" for name, values in self.values.items() if not values]
        for name, values in [("models", self.models), *self.values.items()]:
            words = [json.dumps(value, sort_keys=True) for value in values]
            twice = sorted({word for word in words if words.count(word) > 1})
            if twice:
                wrong.append(f"space: {name!r} names {', '.join(twice)} twice")
        if not wrong and len(self) > MOST:
            wrong.append(f"space: {len(self)} combinations are more than {MOST}: leave some values out")
        return wrong

    def __len__(self) -> int:
        count = len(self.models)
        for values in self.values.values():
            count *= len(values)
        return count

    def __iter__(self) -> Iterator[Candidate]:
        for model, *values in itertools.product(self.models, *self.values.values()):
            yield Candidate(model, dict(zip(self.values, values, strict=True)))

    def picked(self, numbers: Mapping[str, int]) -> Candidate:
        """Return the candidate by the numbers of its values; that of the network is under the key ""."""
        arguments = {name: values[numbers[name]] for name, values in self.values.items()}
        return Candidate(self.models[numbers[""]], arguments)

    def numbers(self, candidate: Candidate) -> dict[str, int]:
        """Return the numbers by which `picked` gives `candidate`."""
        found = {name: values.index(candidate.arguments[name]) for name, values in self.values.items()}
        return {"": self.models.index(candidate.model), **found}

    def sizes(self) -> dict[str, int]:
        """Return how many values there are of each number."""
        return {"": len(self.models), **{name: len(values) for name, values in self.values.items()}}
