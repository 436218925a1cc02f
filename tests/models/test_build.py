"""Names to networks, and what is said when a name or an argument is wrong."""

import builtins
import textwrap

import pytest
import torch
from torch import nn

from edgepress.core.artifact import Builder
from edgepress.core.errors import ConfigError, EdgepressError, MissingExtraError, UnknownNameError
from edgepress.models import bounds
from edgepress.models.bounds import bounded
from edgepress.models.build import build, new_model


def test_seed_decides_the_weights_and_nothing_else_changes(sign) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (new_model("digits_cnn", sign(8, 1), {}, seed).module.state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["0.weight"], c["0.weight"])


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "torchvision:squeezenet1_1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_networks_of_other_libraries(name, channels, sign) -> None:
    module = build(Builder(name), sign(64, channels, 7)).eval()
    assert module(torch.zeros(2, channels, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar_resnet2", "unknown model 'cifar_resnet2'; did you mean 'cifar_resnet"),
        ("timm:mobilenetv3_smal_050", "unknown timm model .* did you mean 'mobilenetv3_small_050'"),
        ("torchvision:resnet19", "unknown torchvision model .* did you mean 'resnet1"),
        ("timm:resnet18.a1_in2k", "unknown weights of timm:resnet18 'a1_in2k'; did you mean 'a1_in1k'"),
    ],
)
def test_unknown_names_get_the_nearest(name, message, sign) -> None:
    with pytest.raises(UnknownNameError, match=message):
        build(Builder(name), sign())


def test_wrong_arguments_are_all_named(sign) -> None:
    with pytest.raises(ConfigError) as caught:
        new_model("cifar_resnet8", sign(), {"widht": 4, "blocks": 2}, 0)
    assert len(caught.value.problems) == 2
    assert "'widht'; did you mean 'width'?" in str(caught.value)
    for name in ("timm:resnet18", "torchvision:resnet18"):
        with pytest.raises(ConfigError, match="does not take these arguments"):
            new_model(name, sign(), {"no_such_thing": 1}, 0)
    with pytest.raises(ConfigError, match="plain JSON values"):
        new_model("cifar_resnet8", sign(), {"width": {4}}, 0)
    with pytest.raises(ConfigError, match="`load` stage"):
        new_model("timm:resnet18", sign(), {"checkpoint_path": "evil.pth"}, 0)


def test_own_factory(sign, tmp_path, monkeypatch) -> None:
    (tmp_path / "mine_zoo.py").write_text(
        textwrap.dedent("""
            from torch import nn

            def good(num_classes, in_chans, hidden=3) -> nn.Module:
                return nn.Sequential(nn.Conv2d(in_chans, hidden, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                     nn.Linear(hidden, num_classes))

            def bare() -> nn.Identity:
                return nn.Identity()

            def needy(classes, magic) -> nn.Module:
                return nn.Identity()

            def unsaid(classes):
                raise SystemExit("was called")

            def a_list(classes) -> nn.Module:
                return [classes]

            number = 3
        """)
    )
    (tmp_path / "mine_broken.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)

    model = new_model("mine_zoo:good", sign(8, 1, 6), {"hidden": 2}, 0)
    assert model.module(torch.zeros(1, 1, 8, 8)).shape == (1, 6)
    assert isinstance(build(Builder("mine_zoo:bare"), sign()), torch.nn.Identity)
    for name, message in [
        ("mine_zoo:god", "has no 'god'; did you mean 'good'"),
        ("mine_zoo:needy", "needs a value for its argument 'magic'"),
        ("mine_zoo:unsaid", "does not say that it builds networks.*-> nn.Module"),
        ("numpy.testing:runstring", "does not say that it builds networks"),
        ("sympy:sympify", "does not say that it builds networks"),
        ("mine_zoo:a_list", "gave a list, not a torch.nn.Module"),
        ("mine_zoo:number", "'number' is a int, not a function"),
        ("mine_zo:good", "there is no module 'mine_zo'.*PYTHONPATH"),
        (":good", "package.module:factory"),
        ("..x:good", "package.module:factory"),
        ("os:system", "belongs to Python itself"),
    ]:
        with pytest.raises(ConfigError, match=message):
            build(Builder(name), sign())
    with pytest.raises(EdgepressError, match="importing 'mine_broken' failed: No module named 'no_such_library'"):
        build(Builder("mine_broken:x"), sign())


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_missing_library_names_the_extra(library, sign, monkeypatch) -> None:
    real = builtins.__import__

    def fake(name, *rest, **keywords):
        if name == library:
            raise ModuleNotFoundError(name=name)
        return real(name, *rest, **keywords)

    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(MissingExtraError, match=r"edgepress\[train\]"):
        build(Builder(f"{library}:resnet18"), sign())


def test_pretrained_weights_that_cannot_be_had(sign, monkeypatch) -> None:
    def offline(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    monkeypatch.setattr("os.makedirs", lambda *_, **__: None)
    for name in ("timm:mobilenetv3_small_050", "torchvision:squeezenet1_1"):
        with pytest.raises(EdgepressError, match=r"pretrained weights of .* could not be had .*Name or service"):
            new_model(name, sign(), {"pretrained": True}, 0)


def test_published_weights_are_kept_and_the_ends_exchanged(sign, monkeypatch) -> None:
    from torchvision.models import resnet18, squeezenet1_1

    for name, factory, head in [("squeezenet1_1", squeezenet1_1, "classifier.1"), ("resnet18", resnet18, "fc")]:
        published = factory().state_dict()
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, p=published, **__: p)
        model = new_model(f"torchvision:{name}", sign(64, 1, 4), {"pretrained": True}, 0)
        assert model.builder.arguments == {}, "a saved model is not downloaded again"
        own = model.module.state_dict()
        kept = [key for key in own if own[key].shape == published[key].shape and torch.equal(own[key], published[key])]
        exchanged = set(own) - set(kept)
        assert {f"{head}.weight", f"{head}.bias"} <= exchanged
        assert len(exchanged) == 3
        assert model.module.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cifar_resnet8", {"shortcut": "a"}, "argument 'shortcut': input should be 'A' or 'B', got 'a'"),
        ("cifar_resnet8", {"width": 0}, "argument 'width' must be at least 1, got 0"),
        ("cifar_resnet8", {"width": 8.5}, "argument 'width': input should be a valid integer, got 8.5"),
        ("cifar_resnet8", {"width": "16"}, "argument 'width': input should be a valid integer, got '16'"),
        ("vgg8", {"width": -4}, "at least 1"),
        ("cifar_resnet", {"blocks": [1, 0, 1]}, "the second and the third at least 1, got \\[1, 0, 1\\]"),
        ("cifar_resnet", {"blocks": [1, 1]}, "blocks must be three numbers"),
        ("cifar_resnet", {"widths": [16, 0, 64]}, "widths must be three numbers of at least 1"),
        ("cifar_resnet", {"widths": [16, 32, 16], "shortcut": "A"}, "must not fall"),
    ],
)
def test_arguments_of_our_own_networks_are_checked(name, arguments, message, sign) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Builder(name, arguments), sign())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cifar_resnet20", {"width": 10**6}, "give it fewer or narrower layers"),
        ("cifar_resnet", {"blocks": [10**7, 1, 1]}, "over 500 layers"),
        ("timm:resnet18", {"base_width": 10**6}, "does not take these arguments: BasicBlock does not support"),
    ],
)
def test_arguments_cannot_exhaust_the_machine(name, arguments, message, sign, monkeypatch) -> None:
    monkeypatch.setattr(bounds, "MOST_PARTS", 500)
    with pytest.raises(ConfigError, match=message):
        build(Builder(name, arguments), sign())


def test_parameters_are_counted_before_their_memory_is_taken() -> None:
    with bounded("small", 4000):
        nn.Linear(20, 20)
    with pytest.raises(ConfigError, match="model 'large': its parameters take over 4e-06 GB"), bounded("large", 4000):
        nn.Sequential(nn.Linear(20, 20), nn.Linear(60, 60))
    nn.Linear(60, 60)  # no longer bounded
