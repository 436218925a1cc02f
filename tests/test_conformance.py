"""Every newcomer is tested here without being named: the registries are the test matrix."""

import dataclasses
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from edgepress.core.artifact import Model, Signature
from edgepress.core.config import dump, parse
from edgepress.core.inputs import InputSpec
from edgepress.core.stage import stages
from edgepress.data.base import datasets
from edgepress.export.formats import formats
from edgepress.export.stages import Format
from edgepress.measure.base import measures
from edgepress.models.base import models, twins
from edgepress.models.build import new_model
from edgepress.recipes.keys import stage_key
from edgepress.recipes.recipe import Step, dump_recipe, parse_recipe, read_recipe
from edgepress.train.objectives.base import objectives
from edgepress.train.trackers.base import trackers

ROOT = Path(__file__).parent.parent
RECIPES = sorted([*ROOT.glob("recipes/*.yaml"), *ROOT.glob("benchmarks/recipes/*.yaml")])
REQUIRED: dict[str, Any] = {
    "epochs": 1,
    "model": "cifar_resnet8",
    "teacher": "$teacher",
    "root": "photos",
    "budget": {"macs": 1_000_000},
    "models": ["cifar_resnet8"],
}
"""Values for fields without a default, by the field's name."""


def smallest(cls: type) -> Any:
    """Return the configuration of `cls` with nothing set that has a default."""
    needed = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    return parse(cls, {name: REQUIRED[name] for name in needed})


CONFIGS = [(registry, name) for registry in (stages, measures, objectives, datasets, trackers) for name in registry]


@pytest.mark.parametrize(("registry", "name"), CONFIGS, ids=[f"{r.kind}-{n}" for r, n in CONFIGS])
def test_configurations_survive_yaml_and_are_documented(registry: Any, name: str) -> None:
    cls = registry.get(name)
    config = smallest(cls)
    assert parse(cls, yaml.safe_load(yaml.safe_dump(dump(config)))) == config
    assert dataclasses.fields(cls) is not None and cls.__dataclass_params__.frozen
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")


def test_recipes_know_the_formats() -> None:
    assert sorted(get_args(Format)) == sorted(formats)


@pytest.mark.parametrize("name", list(stages))
def test_a_stage_has_no_complaint_about_its_defaults_and_one_key(name: str) -> None:
    stage = smallest(stages.get(name))
    if not type(stage).references:
        assert stage.check() == []
    steps = [Step(label, stage, "before" if stage.wants_input() else None, 0) for label in ("one", "other")]
    inputs = {"before": "0" * 16, "teacher": "1" * 16}
    first, second = (stage_key(step, inputs, "data") for step in steps)
    assert first == second, "a label is not in the key"
    assert first != stage_key(dataclasses.replace(steps[0], seed=1), inputs, "data")


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_every_shipped_recipe_is_read_and_written_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "weights/" in path.read_text():
        if "EDGEPRESS_DATA" not in os.environ:
            pytest.skip("its weights lie under EDGEPRESS_DATA, which is not set")
        monkeypatch.chdir(os.environ["EDGEPRESS_DATA"])
    recipe = read_recipe(path)
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(dump_recipe(recipe)))) == recipe


def twin(name: str) -> tuple[Model, np.ndarray]:
    """Return the tiny twin of a model, and images for it."""
    found = twins.get(name)
    spec = InputSpec(height=found.size, width=found.size)
    signature = Signature("segmentation" if found.task == "segmentation" else "classification", spec, ("a", "b", "c"))
    images = np.random.default_rng(0).integers(0, 256, (32, found.size, found.size, 3), dtype=np.uint8)
    return new_model(name, signature, dict(found.arguments), seed=0), images


FAMILIES = ("cifar_resnet8", "densenet_bc100", "mobilenet_v3_small", "unet")
"""One network of each kind of structure; `-m slow` takes them all."""

NETWORKS = [n if n in FAMILIES else pytest.param(n, marks=pytest.mark.slow) for n in models]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_exported_and_quantized_and_stays_untouched(name: str, tmp_path: Path) -> None:
    from edgepress.export.onnx import export_onnx
    from edgepress.models.predictor import TorchPredictor
    from edgepress.models.structure import load_model, save_model
    from edgepress.quantize.ptq import quantize
    from edgepress.runtime.bundle import read_bundle, save_bundle
    from edgepress.runtime.predictor import EnginePredictor

    model, images = twin(name)
    before = TorchPredictor(model)(images)
    save_bundle(export_onnx(model, images), tmp_path / "fp32")
    np.testing.assert_allclose(EnginePredictor(read_bundle(tmp_path / "fp32"))(images), before, rtol=1e-3, atol=1e-4)
    integer = quantize(model, images)
    save_model(integer, tmp_path / "w8a8")
    again = load_model(tmp_path / "w8a8")
    np.testing.assert_array_equal(TorchPredictor(again)(images), TorchPredictor(integer)(images))
    program = export_onnx(again, images)
    assert program.parity["agreement"] >= 99
    np.testing.assert_array_equal(TorchPredictor(model)(images), before)
