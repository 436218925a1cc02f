"""Saving what was done to a network without pickle: outputs come back bit for bit, or an error says why not."""

import json
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.core.artifact import Builder, Model
from edgepress.core.errors import BundleError, ConfigError, EdgepressError, UnknownNameError
from edgepress.models.build import new_model
from edgepress.models.difference import difference
from edgepress.models.layers import layer
from edgepress.models.predictor import TorchPredictor
from edgepress.models.structure import load_model, save_model, settle


def same_again(model: Model, images, folder) -> Model:
    """Save, load, compare outputs bit for bit; return what was loaded."""
    batch = images(model.signature)
    before = TorchPredictor(model)(batch)
    save_model(model, folder)
    again = load_model(folder)
    np.testing.assert_array_equal(TorchPredictor(again)(batch), before)
    state, loaded = model.module.state_dict(), again.module.state_dict()
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    return again


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [
        ("resnet18", {"width": 8}, 32),
        ("cifar_resnet8", {}, 16),
        ("mobilenet_v3_small", {"width": 0.25}, 32),
        ("densenet_bc100", {"growth": 4, "layers": 2}, 16),
        ("timm:mobilenetv3_small_050", {}, 64),
        ("torchvision:squeezenet1_1", {}, 64),
    ],
)
def test_pruned_with_a_dependency_graph(name, arguments, size, sign, images, tmp_path) -> None:
    tp = pytest.importorskip("torch_pruning")
    model = new_model(name, sign(size), arguments, 0)
    head = [m for m in model.module.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    full = sum(p.numel() for p in model.module.parameters())
    pruner = tp.pruner.MetaPruner(
        model.module.eval(),
        torch.zeros(1, *model.signature.input.shape),
        importance=tp.importance.MagnitudeImportance(),
        pruning_ratio=0.4,
        ignored_layers=[head],
    )
    pruner.step()
    assert sum(p.numel() for p in model.module.parameters()) < 0.8 * full
    again = same_again(model, images, tmp_path)
    assert not difference(again.module, model.module)
    assert (tmp_path / "structure.json").stat().st_size < 100_000


def test_head_pruned_transformer(sign, images, tmp_path) -> None:
    model = new_model("timm:test_vit", sign(160), {}, 0)
    attention = model.module.blocks[0].attn
    keep = attention.head_dim * (attention.num_heads - 1)
    width = attention.qkv.in_features
    rows = torch.cat([torch.arange(keep) + part * width for part in range(3)])
    attention.qkv.weight = nn.Parameter(attention.qkv.weight[rows])
    if attention.qkv.bias is not None:
        attention.qkv.bias = nn.Parameter(attention.qkv.bias[rows])
    attention.proj.weight = nn.Parameter(attention.proj.weight[:, :keep])
    attention.qkv.out_features, attention.proj.in_features = 3 * keep, keep
    attention.num_heads -= 1
    attention.attn_dim = keep
    same_again(model, images, tmp_path)


def test_layers_placed_removed_and_reordered(sign, images, tmp_path) -> None:
    model = new_model("cifar_resnet8", sign(), {}, 0)
    net = model.module
    net.layer1[0].bn1 = nn.Identity()
    net.layer1[0].conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=True)
    net.layer2[0].conv2 = nn.Sequential(nn.Conv2d(32, 4, 1, bias=False), nn.Conv2d(4, 32, (3, 3), padding=1))
    net.layer1.append(nn.ReLU6())
    net.layer3.insert(0, nn.BatchNorm2d(64))
    net.relu = nn.SiLU(inplace=True)
    net.linear.bias = None
    net.layer3.extra = nn.Identity()
    net.layer3.register_module("last", net.layer3._modules.pop("0"))
    again = same_again(model, images, tmp_path)
    assert list(again.module.layer3._modules) == ["1", "extra", "last"]
    assert again.module.linear.bias is None


def test_depth_pruned_and_moved_blocks(sign, images, tmp_path) -> None:
    model = new_model("cifar_resnet20", sign(), {"width": 4}, 0)
    net = model.module
    del net.layer1[1]
    net.layer2[0].shortcut = type(net.layer3[0].shortcut)(3, 1)
    net.layer3.append(net.layer3[2])
    net.relu = type(net.layer1[0])(4, 4, 1, "A")
    again = same_again(model, images, tmp_path)
    assert len(again.module.layer1) == 2
    assert again.module.layer3[3].conv1.weight is again.module.layer3[2].conv1.weight


def test_removed_children_and_half_precision(sign, images, tmp_path) -> None:
    model = new_model("light_cnn", sign(), {"width": 4}, 0)
    del model.module.features[-3:]
    model.module.classifier = nn.Linear(32, 5)
    save_model(model, tmp_path)
    assert len(load_model(tmp_path).module.features) == len(model.module.features)

    half = new_model("mlp", sign(8), {}, 0)
    half.module.to(torch.float16)
    save_model(half, tmp_path / "half")
    loaded = load_model(tmp_path / "half").module
    assert {p.dtype for p in loaded.parameters()} == {torch.float16}
    x = torch.rand(2, 3, 8, 8, dtype=torch.float16)
    assert torch.equal(loaded(x), half.module(x))


def test_channels_last_comes_back(sign, images, tmp_path) -> None:
    model = new_model("cifar_resnet8", sign(), {}, 0)
    model.module.to(memory_format=torch.channels_last)
    again = same_again(model, images, tmp_path)
    assert again.module.conv1.weight.is_contiguous(memory_format=torch.channels_last)


OWN = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, tied):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        if tied:
            self.b.weight = self.a.weight
        self.register_buffer("grid", torch.arange(4.0), persistent=False)
        self.relu = nn.ReLU()
        self.again = self.relu
    def forward(self, x):
        x = x.mean((1, 2))[:, :4] + self.grid.sum()
        return self.again(self.b(self.relu(self.a(x))))

def odd(tied=False) -> nn.Module:
    return Odd(tied)

def graph() -> nn.Module:
    return nn.Sequential(torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "odd_zoo.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("built_tied", [True, False])
@pytest.mark.parametrize("edited_tied", [True, False])
def test_tied_weights(own, built_tied, edited_tied, sign, images, tmp_path) -> None:
    model = new_model("odd_zoo:odd", sign(8), {"tied": built_tied}, 0)
    a, b = model.module.a, model.module.b
    b.weight = a.weight if edited_tied else nn.Parameter(torch.rand(4, 4))
    again = same_again(model, images, tmp_path)
    assert (again.module.a.weight is again.module.b.weight) == edited_tied


def test_weights_that_share_memory_are_saved_apart(own, sign, images, tmp_path) -> None:
    model = new_model("odd_zoo:odd", sign(8), {}, 0)
    both = torch.rand(8, 4)
    model.module.a.weight.data, model.module.b.weight.data = both[:4], both[4:]
    same_again(model, images, tmp_path)


def test_changed_non_persistent_buffer(own, sign, images, tmp_path) -> None:
    model = new_model("odd_zoo:odd", sign(8), {}, 0)
    save_model(model, tmp_path / "plain")
    assert "grid" not in (tmp_path / "plain" / "structure.json").read_text()
    model.module.grid = torch.tensor([0.5, 1.5])
    again = same_again(settle(model), images, tmp_path / "edited")
    assert again.module.grid.tolist() == [0.5, 1.5]
    assert "grid" not in again.module.state_dict()


def test_parametrized_layers_that_the_builder_makes(own, tmp_path, sign) -> None:
    model = new_model("odd_zoo:graph", sign(), {}, 0)
    save_model(model, tmp_path)
    x = torch.rand(2, 4)
    assert torch.equal(load_model(tmp_path).module(x), model.module.eval()(x))


def test_what_cannot_be_saved_says_why_and_writes_nothing(own, sign, tmp_path) -> None:
    def attempt(edit, name: str = "cifar_resnet8") -> str:
        model = new_model(name, sign(8), {}, 0)
        changed = edit(model.module)
        module = changed if isinstance(changed, nn.Module) else model.module
        with pytest.raises(EdgepressError) as caught:
            save_model(Model(module, model.builder, model.signature), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    class Strange(nn.Module):
        pass

    assert "became a" in attempt(lambda net: setattr(net, "relu", Strange()))
    assert "'layer1.0.x'" in attempt(lambda net: net.layer1[0].add_module("x", Strange()))
    assert "forward" in attempt(lambda net: setattr(net, "forward", lambda x: x))
    assert "its builder gives" in attempt(lambda net: nn.Sequential(net))

    def unshare(net: nn.Module) -> None:
        net.relu = nn.ReLU(inplace=True)

    assert "shares a submodule between several places" in attempt(unshare, "odd_zoo:odd")
    with pytest.raises(UnknownNameError):
        save_model(Model(nn.Identity(), Builder("nobody"), sign()), tmp_path / "out")


def test_layer_of_our_own(sign, images, tmp_path) -> None:
    @layer("test_scale")
    class Scale(nn.Module):
        def __init__(self, count: int, start: float) -> None:
            super().__init__()
            self.start = start
            self.scale = nn.Parameter(torch.full((count, 1, 1), start))

        def config(self):
            return {"count": self.scale.shape[0], "start": self.start}

        def forward(self, x):
            return x * self.scale

    model = new_model("cifar_resnet8", sign(), {}, 0)
    model.module.relu = Scale(16, 0.5)
    nn.init.uniform_(model.module.relu.scale)
    same_again(model, images, tmp_path)
    placed = json.loads((tmp_path / "structure.json").read_text())["difference"]["placed"]
    assert placed == {"relu": {"layer": "test_scale", "config": {"count": 16, "start": 0.5}}}


def test_settle_records_the_difference_as_an_edit(sign, images, tmp_path) -> None:
    model = new_model("mlp", sign(8), {}, 0)
    assert settle(model) is model
    model.module.layers[1] = nn.Linear(192, 7)
    model.module.layers[3] = nn.Linear(7, 64)
    settled = settle(model)
    assert [edit["name"] for edit in settled.edits] == ["difference"]
    again = same_again(settled, images, tmp_path)
    assert again.edits == settled.edits
    assert settle(again) is again


def test_damaged_or_foreign_files(sign, tmp_path) -> None:
    model = new_model("mlp", sign(8), {}, 0)

    def fresh():
        save_model(model, tmp_path)
        return tmp_path / "structure.json", tmp_path / "weights.safetensors"

    with pytest.raises(BundleError, match="no saved model"):
        load_model(tmp_path / "nowhere")
    structure, weights = fresh()
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BundleError, match="truncated or damaged"):
        load_model(tmp_path)
    structure, weights = fresh()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match="checksum differs"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(BundleError, match="not saved completely"):
        load_model(tmp_path)
    structure, weights = fresh()
    text = structure.read_text()
    for changed, message in [
        (text[:100], "damaged"),
        (text.replace('"format": 1', '"format": 2'), "reads up to 1: update"),
        (text.replace('"precision"', '"precison"'), "did you mean 'precision'"),
        ("[]", "expected a mapping"),
    ]:
        structure.write_text(changed)
        with pytest.raises(BundleError, match=message):
            load_model(tmp_path)
    changed = json.loads(text)
    changed["builder"]["arguments"] = {"hidden": [4]}
    structure.write_text(json.dumps(changed))
    with pytest.raises(BundleError, match="does not fit what 'mlp' builds here"):
        load_model(tmp_path)
    structure.write_text("[" * 100_000)
    with pytest.raises(BundleError, match="damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"edits": [{}]},
        {"edits": [{"name": ["difference"]}]},
        {"difference": {"tensors": {"0.weight": {"kind": "parameter", "shape": "abc", "dtype": "float32"}}}},
        {"difference": {"tensors": {"0.weight": {"kind": "parameter", "shape": [1], "dtype": "load"}}}},
        {"difference": {"attributes": {"": {"__class__": "x"}}}},
        {"difference": {"attributes": {"": {"forward": 1}}}},
        {"difference": {"attributes": {"": {"x": {"float": "zz"}}}}},
        {"builder": {"name": "numpy.testing:runstring", "arguments": {"astr": "raise SystemExit", "dict": {}}}},
        {"builder": {"name": "mlp", "arguments": {"hidden": "a"}}},
    ],
)
def test_a_structure_that_is_wrong_inside_is_refused(change, sign, tmp_path) -> None:
    save_model(new_model("mlp", sign(8), {}, 0), tmp_path)
    structure = tmp_path / "structure.json"
    known = json.loads(structure.read_text())
    inside = {key: {**known[key], **value} if isinstance(value, dict) else value for key, value in change.items()}
    structure.write_text(json.dumps(known | inside))
    with pytest.raises((BundleError, ConfigError)):
        load_model(tmp_path)


def test_saving_is_reproducible(sign, tmp_path) -> None:
    for folder in ("a", "b"):
        save_model(new_model("cifar_resnet8", sign(), {}, 0), tmp_path / folder)
    for name in ("structure.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
