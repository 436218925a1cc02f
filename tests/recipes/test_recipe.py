"""Reading recipes: strict, everything that is wrong at once, with the nearest name."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.core.errors import ConfigError, EdgepressError, UnknownNameError
from edgepress.recipes.recipe import dump_recipe, load_yaml, parse_recipe, parse_yaml, read_recipe

from .conftest import DATA, TINY, chain, mapping

TEXT = """
name: tiny
data: {synthetic: {classes: 2}}
seed: 3
stages:
  - train:   {name: teacher, model: cifar_resnet8, epochs: 4, lr: 1e-1, weight_decay: 1e-3}
  - distill: {name: student, model: cifar_resnet8, teacher: $teacher, epochs: 2}
measure: [quality, size, {quality: {split: val}}]
"""


def problems(value: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(value, "r.yaml")
    return caught.value.problems


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(TEXT)
    return file


def test_reads_a_recipe_and_coerces_exponents(path: Path) -> None:
    recipe = read_recipe(path)
    teacher, student = recipe.steps
    assert (recipe.name, recipe.seed, teacher.label, student.label) == ("tiny", 3, "teacher", "student")
    assert teacher.stage.weight_decay == 1e-3 and teacher.stage.lr == 0.1
    assert (teacher.input, student.input) == (None, None)  # both name a model, so both start from it
    assert student.references() == {"teacher": "teacher"}
    assert [type(m).__name__ for m in recipe.measures] == ["Quality", "Size", "Quality"]


def test_the_resolved_recipe_reads_back_as_itself(path: Path) -> None:
    recipe = read_recipe(path)
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert dump_recipe(recipe)["stages"][1]["distill"]["views"] == 8


def test_without_a_model_a_training_goes_on_from_the_stage_before() -> None:
    recipe = parse_recipe(mapping({"train": {"name": "a", **TINY}}, {"train": {"name": "b", "epochs": 1}}))
    assert recipe.step("b").input == "a"


def test_input_chooses_an_earlier_stage() -> None:
    stages = [{"train": {"name": n, **TINY}} for n in ("a", "b")]
    recipe = parse_recipe(mapping(*stages, {"train": {"name": "c", "epochs": 1, "input": "a"}}))
    assert recipe.step("c").input == "a"


def test_all_problems_of_a_file_at_once() -> None:
    found = problems(
        {
            "name": "x",
            "dta": {},
            "data": {"synthetc": {}},
            "seed": -1,
            "stages": [
                {"trian": {"epochs": 1}},
                {"train": {"model": "cifar_resnet8", "epoch": 5}},
                {"distill": {"name": "s", "teacher": "$techer", "epochs": "many", "temperture": 2}},
            ],
            "measure": ["qualty"],
        }
    )
    text = "\n".join(found)
    for wanted in (
        "unknown key 'dta'; did you mean 'data'?",
        "unknown data set 'synthetc'; did you mean 'synthetic'?",
        "'seed' must be a whole number",
        "unknown stage 'trian'; did you mean 'train'?",
        "unknown field 'epoch'; did you mean 'epochs'?",
        "field 'epochs' is required",
        "unknown field 'temperture'; did you mean 'temperature'?",
        "field 'epochs'",
        "unknown measure 'qualty'; did you mean 'quality'?",
    ):
        assert wanted in text, f"{wanted!r} is not in:\n{text}"
    assert all(line.startswith("r.yaml: ") for line in found)


def test_fields_of_every_stage_are_suggested_too() -> None:
    assert "did you mean 'input'?" in problems(mapping({"train": {**TINY, "inputt": "x"}}))[0]


@pytest.mark.parametrize("teacher", ["$student", "$later", "$techer"])
def test_a_reference_must_lead_to_an_earlier_stage(teacher: str) -> None:
    value = mapping(
        {"train": {"name": "teacher", **TINY}},
        {"distill": {"name": "student", **TINY, "teacher": teacher}},
        {"train": {"name": "later", **TINY}},
    )
    [problem] = problems(value)
    assert "stage 'student'" in problem and "no earlier stage" in problem and "teacher" in problem


def test_a_program_teaches_nobody() -> None:
    stages = [{"train": {"name": "teacher", **TINY}}, {"export": {"name": "file", "to": "onnx"}}]
    [problem] = problems(mapping(*stages, {"distill": {"name": "student", **TINY, "teacher": "$file"}}))
    assert "field 'teacher' refers to 'file', which gives a program; name the network it came from" in problem


def test_a_reference_to_a_stage_that_could_not_be_read_is_not_reported_on_top() -> None:
    value = chain()
    value["stages"][0]["train"]["epohcs"] = 1
    [problem] = problems(value)
    assert "did you mean 'epochs'?" in problem


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (mapping(), "'stages' must be a list of at least one stage"),
        (mapping({"train": {"epochs": 1}}), "no stage comes before it"),
        (mapping({"train": TINY}, {"train": TINY}), "another stage has this name"),
        (mapping({"train": {**TINY, "input": "x"}}), "starts from nothing"),
        (mapping({"train": {**TINY, "epochs": 0}}), "'epochs' must be at least 1"),
        (mapping({"train": {**TINY, "epochs": 1.5}}), "field 'epochs'"),
        (mapping({"train": {**TINY, "seed": "a"}}), "'seed' must be a whole number"),
        (mapping({"train": TINY, "distill": {}}), "expected 'kind: {fields}'"),
        (mapping({"train": TINY}, name="a/b"), "'name' must be letters"),
        (mapping({"train": TINY}, name=""), "'name' must be letters"),
        (mapping({"train": TINY}, data=None), "expected a name"),
        ({"name": "x", "stages": [{"train": TINY}], "data": {"synthetic": {"clases": 2}}}, "did you mean 'classes'?"),
    ],
)
def test_what_is_wrong_is_said(value: dict[str, Any], wanted: str) -> None:
    assert wanted in "\n".join(problems(value))


def test_set_overrides_by_label_and_at_the_top(path: Path) -> None:
    sets = ["student.epochs=7", "teacher.lr=1e-3", "seed=9", "name=other", "data.synthetic.classes=3"]
    recipe = read_recipe(path, [*sets, "student.arguments.width=4"])
    assert recipe.step("student").stage.epochs == 7
    assert recipe.step("teacher").stage.lr == 1e-3
    assert recipe.step("student").stage.arguments == {"width": 4}
    assert (recipe.seed, recipe.name, recipe.source.classes) == (9, "other", 3)


def test_set_reaches_a_stage_without_fields_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("name: x\ndata: digits\nstages:\n  - train\n")
    recipe = read_recipe(file, ["train.model=digits_cnn", "train.epochs=1"])
    assert recipe.step("train").stage.epochs == 1


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("studnt.epochs=1", "did you mean 'student'?"),
        ("student.epcohs=1", "did you mean 'epochs'?"),
        ("student.epochs", "write it as name.field=value"),
        ("=3", "write it as name.field=value"),
        ("student=3", "name a field of the stage"),
        ("student.epochs.deep=1", "is not a mapping"),
    ],
)
def test_a_wrong_set_is_an_error(path: Path, text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_recipe(path, [text])
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x",
        "a: !!python/object/apply:os.system ['true']",
        "a: !thing 1",
        "- a list",
        "just text",
        "a: [unclosed",
        "",
    ],
)
def test_only_plain_yaml_is_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"r\.yaml"):
        load_yaml(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.yaml", "binary.yaml"):
        with pytest.raises(ConfigError, match=name):
            read_recipe(tmp_path / name)


def test_step_names_the_nearest_label() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'student'"):
        parse_recipe(chain()).step("studnet")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
parts = st.sampled_from(["train", "distill", "name", "epochs", "model", "teacher", "$train", "cifar_resnet8", 1, None])
stage_like = st.dictionaries(parts, st.dictionaries(parts, parts | json_values, max_size=4) | json_values, max_size=2)


@given(st.fixed_dictionaries({"stages": st.lists(stage_like | json_values, max_size=3) | json_values}))
def test_any_list_of_stages_is_read_or_refused_in_words(extra: dict[str, Any]) -> None:
    try:
        parse_recipe({"name": "x", "data": DATA, **extra})
    except EdgepressError as error:
        assert str(error)


@given(st.dictionaries(st.sampled_from(["name", "data", "seed", "stages", "measure", "x"]), json_values))
def test_any_mapping_is_read_or_refused_in_words(value: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse_recipe(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nseed: 1\nseed: 2\n", "line 3: 'seed' is said twice"),
        ("stages: [{train: {epochs: 1, epochs: 7}}]", "'epochs' is said twice"),
        ("? [a]\n: 1\n", "a key is a word"),
        ("a: " + "[" * 5000, "nested more than"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 2024-99-99", "not valid YAML"),
    ],
)
def test_yaml_that_says_two_things_or_too_much(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_yaml(text, "here")


@pytest.mark.parametrize("label", [None, ["a"], "$t", "a b", ""])
def test_names_of_stages_are_words(label: object) -> None:
    with pytest.raises(ConfigError, match="a name is letters, digits"):
        parse_recipe(mapping({"train": {**TINY, "name": label}}))


def test_seeds_fit_the_generators() -> None:
    with pytest.raises(ConfigError, match=r"below 2\^63"):
        parse_recipe(mapping({"train": TINY}, seed=2**64))
