"""Jobs: a recipe cut down to what a few of its stages need."""

from pathlib import Path

from benchmarks.job import recipe, toward

TEXT = """
name: two-branches
data: {digits: {}}
stages:
  - train: {name: teacher, model: digits_cnn, epochs: 1}
  - export: {name: whole, to: onnx}
  - prune: {name: cut, input: teacher, budget: {speedup: 2.0}}
  - distill: {name: student, teacher: $teacher, epochs: 1}
  - prune: {name: other-cut, input: teacher, budget: {params: 2000}}
  - distill: {name: other, teacher: $student, epochs: 1}
  - export: {name: other-file, to: onnx}
"""


def test_of_a_recipe_only_what_a_stage_needs_is_left(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    whole = recipe(path, [], trial=False)
    assert [step.label for step in toward(whole, ["student"]).steps] == ["teacher", "cut", "student"]
    assert [step.label for step in toward(whole, ["other-file"]).steps] == [
        "teacher", "cut", "student", "other-cut", "other", "other-file",
    ]  # fmt: skip
    assert toward(whole, [step.label for step in whole.steps]) == whole
