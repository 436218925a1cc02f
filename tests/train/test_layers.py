"""What layers do with images: statistics, dead channels, pictures; their times, and what to cut first."""

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.core.errors import ConfigError
from edgepress.runtime.overlay import palette, png
from edgepress.train.layer_times import LayerTime, cut_first, felt_without, time_layers
from edgepress.train.layers import look_at
from edgepress.train.pictures import channels, classified, segmented
from train.helpers import tiny_net


def network() -> nn.Sequential:
    """Two layers; channel 1 of the first is always negative, so dead after the ReLU, which works in place."""
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    with torch.no_grad():
        module[0].weight.copy_(torch.eye(4, 3)[:, :, None, None])
        module[0].weight[1] = -1.0
        module[0].bias.copy_(torch.tensor([0.0, -1.0, 0.0, 0.25]))
    return module


def test_statistics_and_dead_channels_are_those_of_the_activations() -> None:
    module, images = network(), torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    conv, relu, linear = look_at(module, ["0", "1", "3"], lambda: module(images), square=True)
    assert (conv.shape, relu.shape, linear.shape) == ((4, 6, 6), (4, 6, 6), (5,))
    assert conv.dead == (3,), "a channel that is its bias everywhere"
    assert relu.dead == (1, 3)
    assert relu.zeros == pytest.approx(25) and conv.zeros == 0, "taken before the ReLU changed it in place"
    expected = module[0](images)
    assert conv.mean == pytest.approx(expected.mean().item(), rel=1e-5)
    assert (conv.least, conv.most) == pytest.approx((expected.min().item(), expected.max().item()))
    np.testing.assert_allclose(conv.maps, expected[0].detach().numpy(), rtol=1e-6)
    assert linear.maps.shape == (1, 5, 8)
    assert relu.facts()["dead"] == 2 and relu.facts()["dead_channels"] == [1, 3]


def test_globs_choose_layers_and_nothing_stays_behind() -> None:
    module = nn.ModuleDict({"stem": tiny_net(2), "layer2": tiny_net(2)})
    found = look_at(module, ["layer2.*"], lambda: module["layer2"](torch.rand(2, 3, 8, 8)), square=True)
    assert [layer.path for layer in found] == [f"layer2.{n}" for n in range(7)]
    assert not any(part._forward_hooks for part in module.modules())


def test_a_layer_that_is_not_there_names_the_nearest() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(ConfigError, match="the network has no layer '00'; did you mean '0'"):
        look_at(module, ["0", "00"], lambda: module(torch.rand(1, 3, 4, 4)), square=True)


def test_tokens_are_shown_as_maps() -> None:
    module = nn.Sequential(nn.Flatten(2), nn.Identity())
    module[1].forward = lambda x: x.transpose(1, 2)
    [layer] = look_at(module, ["1"], lambda: module(torch.rand(2, 6, 4, 4)), square=True)
    assert layer.shape == (6, 4, 4)


def test_pictures_have_the_size_of_their_tiles() -> None:
    maps = np.random.default_rng(0).normal(size=(5, 8, 6)).astype(np.float32)
    picture = channels(maps, dead=(4,))
    assert picture.shape == (2 * (48 + 2) + 2, 3 * (36 + 2) + 2, 3)
    assert (picture[-20, 50] == (170, 30, 40)).all(), "the dead one is red"
    assert channels(np.zeros((100, 300, 300), np.float32)).shape[0] < 1000, "large maps are made smaller"
    assert png(picture)[:4] == b"\x89PNG"


def test_samples_say_what_is_wrong() -> None:
    images = np.full((3, 8, 8, 1), 128, np.uint8)
    right, wrong = (classified(images[:1], [("cat", ok)]) for ok in (True, False))
    assert right.shape == wrong.shape and (right != wrong).any()
    targets = np.zeros((3, 8, 8), np.int64)
    targets[0, 0, 0] = 255
    picture = segmented(images, targets, np.ones_like(targets), ("road", "zebra"))
    first, second = palette(("road", "zebra"))
    assert (picture[2 + 50, 98 + 4 + 50] == first).all() and (picture[2 + 50, 2 * 98 + 4 + 50] == second).all()
    assert (picture[4, 98 + 6] == 0).all(), "what does not count is black"


class Clock:
    """A clock that only those who take time move on."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(nn.Module):
    """Takes so many seconds by that clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.clock.now += self.seconds
        return x


def test_layers_are_timed_in_the_order_of_their_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("edgepress.train.layer_times.time", clock)
    module = nn.Sequential(Slow(clock, 2), nn.Conv2d(3, 4, 1), Slow(clock, 6), nn.Flatten(), nn.Linear(64, 2)).eval()

    def run() -> None:
        module(torch.rand(1, 3, 4, 4))
        clock.now += 2  # what no module does

    layers, total = time_layers(module, run, seconds=50)
    assert [layer.path for layer in layers] == ["0", "1", "2", "3", "4"]
    assert [layer.number for layer in layers] == [None, 0, None, None, 1]
    assert [layer.ms for layer in layers] == [2000, 0, 6000, 0, 0] and total == 10_000
    assert [layer.share for layer in layers] == [20, 0, 60, 0, 0]
    assert layers[1].parameters == 16
    assert clock.now == 60, "one call untimed, five in fifty seconds"


def test_a_layer_is_felt_by_what_its_weakest_filters_carry_and_is_put_back() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(128, 2)).eval()
    with torch.no_grad():
        module[0].weight[:2] = 0.0  # the weakest quarter carries nothing
        module[0].bias[:2] = 0.0
    before = {name: value.clone() for name, value in module.state_dict().items()}
    images = torch.rand(32, 3, 4, 4)
    layers, _ = time_layers(module, lambda: module(images[:1]), seconds=0.01)
    felt = felt_without(module, layers, lambda n: module(images[:n]))
    assert set(felt) == {"0", "2"}, "the last layer gives the outputs"
    assert felt["0"] == 0 and felt["2"] > 0
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_takes_time_and_is_hardly_felt_is_cut_first() -> None:
    def layer(path: str, felt: float | None, parameters: int = 100) -> LayerTime:
        return LayerTime(path, "Conv2d", 1.0, 20.0, parameters, 0, felt)

    layers = [layer("a", 0.5), layer("b", 0.1), layer("c", 0.01), layer("d", None)]
    shares = {"a": 60.0, "b": 30.0, "c": 1.0, "d": 9.0}
    assert [found.path for found in cut_first(layers, shares)] == ["b", "a"]
    unknown = [layer("a", None, 1000), layer("b", None, 10)]
    assert [found.path for found in cut_first(unknown, {"a": 50.0, "b": 50.0})] == ["b", "a"]
