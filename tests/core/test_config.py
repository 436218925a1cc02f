import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.config import MOST_PROBLEMS, STRICT, dump, parse
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec


@dataclass(frozen=True)
class Inner:
    __pydantic_config__ = STRICT

    ratio: float = 0.5
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    __pydantic_config__ = STRICT

    epochs: int
    lr: float = 0.1
    inner: Inner = Inner()
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError("epochs must be at least 1")


def problems(data, where=""):
    with pytest.raises(ConfigError) as caught:
        parse(Outer, data, where)
    return caught.value.problems


def test_coerces_by_field_type():
    config = parse(Outer, {"epochs": "3", "lr": "1e-3", "inner": {"names": ["a"]}})
    assert config == Outer(3, 0.001, Inner(names=("a",)))
    assert type(config.epochs) is int


@pytest.mark.parametrize("wrong", [1.5, "three", None, [], "1.5"])
def test_wrong_type_names_field_and_value(wrong):
    (problem,) = problems({"epochs": wrong})
    assert "'epochs'" in problem and repr(wrong) in problem


def test_all_problems_at_once_under_their_place():
    found = problems({"lr": "fast", "inner": {"ratoi": 1}, "epoch": 2}, "recipe.yaml: stage 'student'")
    assert len(found) == 4
    assert all(problem.startswith("recipe.yaml: stage 'student': ") for problem in found)
    text = "\n".join(found)
    assert "field 'epochs' is required" in text
    assert "unknown field 'epoch'; did you mean 'epochs'?" in text
    assert "unknown field 'inner.ratoi'; did you mean 'ratio'?" in text
    assert "'lr'" in text and "'fast'" in text


def test_own_check_speaks_plainly():
    (problem,) = problems({"epochs": 0})
    assert "epochs must be at least 1" in problem and "Value error" not in problem


@pytest.mark.parametrize("value", [float("nan"), float("inf"), ".nan"])
def test_numbers_are_finite(value):
    assert "'lr'" in problems({"epochs": 1, "lr": value})[0]


@pytest.mark.parametrize("data", [None, [], "epochs", 3])
def test_not_a_mapping(data):
    assert "expected a mapping of fields" in problems(data)[0]


def test_a_hostile_number_of_problems_is_cut():
    found = problems({"epochs": 1} | {f"k{k}": 0 for k in range(MOST_PROBLEMS + 25)})
    assert len(found) == MOST_PROBLEMS + 1
    assert found[-1] == "and 25 problems more"


@given(st.builds(Outer, st.integers(1, 99), st.floats(allow_nan=False, allow_infinity=False)))
def test_dump_is_the_inverse_of_parse(config):
    assert parse(Outer, json.loads(json.dumps(dump(config)))) == config


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())))
def test_anything_is_a_config_or_a_config_error(data):
    try:
        assert isinstance(parse(Outer, data), Outer)
    except ConfigError as error:
        assert error.problems


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"height": 0}, "holds no pixels"),
        ({"channels": 1}, "color"),
        ({"channels": 4}, "color"),
        ({"mean": [0.5]}, "3 values each"),
        ({"std": [0.0, 1, 1]}, "above 0"),
        ({"crop": 1.5}, "crop in"),
        ({"color": "HSV"}, "'color'"),
    ],
)
def test_input_spec_refuses(fields, part):
    with pytest.raises(ConfigError, match=part):
        parse(InputSpec, {"height": 8, "width": 8} | fields)


@pytest.mark.parametrize(
    "wrong", [{"epochs": True}, {"epochs": 1, "lr": False}, {"epochs": 1, "inner": {"ratio": True}}]
)
def test_true_is_no_number(wrong):
    (problem,) = problems(wrong)
    assert "expected a number, got" in problem


def test_a_long_value_is_shortened():
    (problem,) = problems({"epochs": "x" * 100_000})
    assert len(problem) < 400 and "xxx...xxx" in problem
