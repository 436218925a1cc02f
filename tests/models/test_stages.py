"""The stage `load`."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from edgepress.core.config import parse
from edgepress.core.errors import ConfigError, EdgepressError
from edgepress.models.build import head_of, new_model, require_outputs
from edgepress.models.stages import Load


def context(signature):
    return SimpleNamespace(data=SimpleNamespace(signature=signature), seed=0)


def test_brings_a_network_with_its_weights_and_normalization(sign, tmp_path) -> None:
    source = new_model("digits_cnn", sign(8, 1), {}, seed=9)
    torch.save({"state_dict": source.module.state_dict()}, tmp_path / "w.pt")
    config = {"model": "digits_cnn", "weights": str(tmp_path / "w.pt"), "mean": [0.1], "std": ["3e-1"]}
    stage = parse(Load, config)
    assert stage.check() == []
    model = stage(None, context(sign(8, 1)))
    assert model.signature.input.mean == (0.1,) and model.signature.input.std == (0.3,)
    assert model.signature.labels == source.signature.labels
    assert torch.equal(model.module[0].weight, source.module[0].weight)


def test_a_network_of_another_number_of_classes_is_refused(sign) -> None:
    stage = parse(Load, {"model": "models.test_stages:seven"})
    with pytest.raises(ConfigError, match=r"gives a tensor \(1, 7\) for one image; 5 classes need a tensor \(1, 5\)"):
        stage(None, context(sign(8, 1, 5)))


def test_looking_at_a_network_leaves_it_as_it_was(sign) -> None:
    model = new_model("digits_cnn", sign(8, 1), {}, seed=0)
    model.module.train()
    frozen = next(part for part in model.module.modules() if isinstance(part, torch.nn.BatchNorm2d)).eval()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    require_outputs(model)
    assert model.module.training and not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    larger = replace(model, signature=sign(16, 1))
    with pytest.raises(ConfigError, match=r"'digits_cnn' does not run on an image \(1, 16, 16\)"):
        require_outputs(replace(larger, module=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))))


def seven(classes: int, channels: int) -> torch.nn.Module:
    """A factory that asks nobody for the number of classes."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * channels, 7))


def test_a_new_head_for_a_checkpoint_of_other_classes(sign, tmp_path) -> None:
    source = new_model("cifar_resnet8", sign(16, 3, 7), {"width": 4}, seed=9).module
    torch.save(source.state_dict(), tmp_path / "w.pt")
    signature = sign(16, 3, 5)
    config = {"model": "cifar_resnet8", "arguments": {"width": 4}, "weights": str(tmp_path / "w.pt"), "head": "new"}
    model = parse(Load, config)(None, context(signature)).module
    fresh = new_model("cifar_resnet8", signature, {"width": 4}, seed=0).module
    for name, value in model.state_dict().items():
        expected = fresh if name.startswith("linear.") else source
        assert torch.equal(value, expected.state_dict()[name])
    with pytest.raises(EdgepressError, match="Flatten has no linear layer"):
        head_of(torch.nn.Flatten())
    assert Load(model="mlp", head="new").check() == ["field 'head': 'new' is for a checkpoint; name it in 'weights'"]


def test_wrong_fields(sign) -> None:
    problems = Load(model="mlp", mean=(0.5,), weights="/nowhere.pt").check()
    assert problems == [
        "fields 'mean' and 'std' belong together: give both or none",
        "field 'weights': there is no file '/nowhere.pt'",
    ]
    with pytest.raises(ConfigError, match="need 1 values each"):
        Load(model="mlp", mean=(0.5, 0.5), std=(1.0, 1.0))(None, context(sign(8, 1)))
    with pytest.raises(ConfigError, match="did you mean 'weights'"):
        parse(Load, {"model": "mlp", "weight": "x"})


def test_reading_it_does_not_load_torch() -> None:
    code = "import sys, edgepress.models.stages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
