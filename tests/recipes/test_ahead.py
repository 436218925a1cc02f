"""The dry run of a recipe: what is certain to fail is told before the first training, all of it at once."""

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.errors import ConfigError, EdgepressError, MissingExtraError
from edgepress.core.inputs import InputSpec
from edgepress.export.stages import WRITERS
from edgepress.recipes.recipe import parse_recipe
from edgepress.recipes.runner import run

from .conftest import TINY, Notes, Run, chain, mapping

pytest.importorskip("torch")


def refused(given: dict[str, Any], runs: Any) -> list[str]:
    """Return the problems of a recipe of which nothing was computed."""
    notes = Notes()
    with pytest.raises(ConfigError) as error:
        run(parse_recipe(given), runs, notes)
    assert not notes.done()
    return error.value.problems


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ({"model": "cifar_resnet88"}, "did you mean 'cifar_resnet8'"),
        ({"arguments": {"widht": 4}}, "no argument 'widht'"),
        ({"losses": [{"hint": {"student": ["layer9"], "teacher": ["layer2"]}}]}, "the student has no module 'layer9'"),
        ({"losses": [{"hint": {"student": ["layer2"], "teacher": ["layer2.7"]}}]}, "the teacher has no module 'layer2"),
        ({"losses": [{"mgd": {"student": ["linear:in"], "teacher": ["layer2"]}}]}, "no connector joins linear:in"),
        ({"losses": ["cwd_logits"]}, "gives one label per image"),
    ],
)
def test_a_student_that_cannot_be_is_told_before_its_teacher_is_trained(runs, student, words):
    [problem] = refused(chain(**student), runs)
    assert problem.startswith("stage 'student': ") and words in problem


def test_every_stage_is_looked_at_and_named(runs):
    given = mapping(
        {"train": {"name": "first", **TINY}},
        {"mutual": {"name": "both", **TINY, "peer": "cifar_resnet9"}},
        {"load": {"name": "mine", "model": "cifar_resnet8", "mean": [0.5, 0.5], "std": [0.2, 0.2]}},
        {"distill": {"name": "student", **TINY, "model": "vgg88", "teacher": "$mine"}},
    )
    problems = refused(given, runs)
    assert {problem.split(":")[0] for problem in problems} == {"stage 'both'", "stage 'mine'", "stage 'student'"}


def test_a_checkpoint_of_another_network_is_told_before_a_training(runs, tmp_path):
    from safetensors.torch import save_file

    from edgepress.models.build import build

    signature = Signature("classification", InputSpec(16, 16), ("a", "b"))
    save_file(build(Builder("cifar_resnet20"), signature).state_dict(), tmp_path / "other.safetensors")
    mine = {"load": {"name": "mine", "model": "cifar_resnet8", "weights": str(tmp_path / "other.safetensors")}}
    notes = Notes()
    with pytest.raises(EdgepressError, match="does not fit this network"):
        run(parse_recipe(mapping({"train": {"name": "first", **TINY}}, mine)), runs, notes)
    assert not notes.done()


def test_a_teacher_of_an_earlier_run_is_asked_and_what_is_done_is_not_built_again(runs, run_recipe: Run, monkeypatch):
    run_recipe(chain())
    wrong = chain(losses=[{"hint": {"student": ["layer2"], "teacher": ["layer7"]}}])
    assert "the teacher has no module 'layer7'" in refused(wrong, runs)[0]

    from edgepress.train.stages import Distill, Train

    for stage in (Train, Distill):
        monkeypatch.setattr(stage, "dry_run", lambda *_: pytest.fail("it is done"))
    assert run_recipe(chain())[1].kept() == ["teacher", "student"]


def test_what_nobody_knows_yet_is_left_to_its_stage(run_recipe: Run):
    """A pruned teacher has modules that only the pruning can tell."""
    pruned = {"prune": {"name": "pruned", "budget": {"macs": 120000}}}
    learn = {"name": "student", **TINY, "epochs": 1, "teacher": "$pruned"}
    hint = [{"hint": {"student": ["layer2"], "teacher": ["layer2"]}}]
    recipe = mapping({"train": {"name": "whole", **TINY, "epochs": 1}}, pruned, {"distill": {**learn, "losses": hint}})
    assert run_recipe(recipe)[1].done() == ["whole", "pruned", "student"]


@pytest.mark.parametrize("extra", WRITERS)
def test_a_format_without_its_writer_is_told_before_anything_is_trained(runs, extra, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == WRITERS[extra] else find(name))
    notes = Notes()
    with pytest.raises(MissingExtraError, match=rf"'export' to '{extra}'.*edgepress\[{extra}\]"):
        run(parse_recipe(mapping({"train": {"name": "net", **TINY}}, {"export": {"to": extra}})), runs, notes)
    assert not notes.done()


@pytest.mark.parametrize("extra", WRITERS)
def test_the_packages_named_are_those_that_the_writers_import(extra, monkeypatch):
    from edgepress.export.formats import formats
    from edgepress.models.build import build

    signature = Signature("classification", InputSpec(16, 16), ("a", "b"))
    builder = Builder("cifar_resnet8", {"width": 4})
    monkeypatch.setitem(sys.modules, WRITERS[extra], None)
    with pytest.raises(MissingExtraError) as error:
        formats.get(extra)(Model(build(builder, signature).eval(), builder, signature), np.zeros((4, 16, 16, 3), "u1"))
    assert error.value.extra == extra
