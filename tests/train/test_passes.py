"""Passes of convolutions another way: the same numbers, where they are asked for, and a resumed training keeps them."""

import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepress.core.inputs import InputSpec
from edgepress.train import depthwise, inference, passes, precision, products, training
from edgepress.train.passes import faster, other_passes, site
from edgepress.train.stages import Train
from train.helpers import Kept, context, same_weights

SHAPES = [
    (6, 8, 8, 3, 1, 1),
    (6, 4, 9, 3, 2, 1),
    (4, 6, 7, 3, 2, 1),
    (5, 7, 4, 1, 1, 0),
    (3, 5, 5, 5, 1, 2),
    (4, 6, 4, 3, 1, 0),
]
"""Channels in and out, height and width, kernel, stride, padding."""


def tensors(shape, seed=0):
    inputs, outputs, size, kernel, _, _ = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, inputs, size, size, generator=generator).to(memory_format=torch.channels_last)
    w = torch.randn(outputs, inputs, kernel, kernel, generator=generator) / inputs
    return x.bfloat16().float().requires_grad_(), w.bfloat16().float().requires_grad_(), torch.randn(outputs)


def gradients(x, w, bias, stride, padding, table, groups=1):
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), other_passes(table):
        y = functional.conv2d(x, w, bias, stride, padding, 1, groups)
    y.float().square().sum().backward()
    return y.float(), x.grad, w.grad


def agrees(x, w, bias, stride, padding, passes, groups=1):
    exact = x.detach().double().requires_grad_(), w.detach().double().requires_grad_()
    y = functional.conv2d(*exact, bias.double(), stride, padding, 1, groups)
    y.square().sum().backward()
    found = gradients(x, w, bias, stride, padding, {site(x, w, stride, padding): passes}, groups)
    for mine, right in zip(found, (y, exact[0].grad, exact[1].grad), strict=True):
        assert (mine - right).abs().max() <= 0.02 * right.abs().max()


@pytest.mark.parametrize("passes", ["o", "w", "x", "owx"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_every_pass_agrees_with_the_convolution_in_double_precision(shape, passes):
    *_, stride, padding = shape
    if stride > 1 and "x" in passes:
        pytest.skip("the gradient of the inputs is a product at stride 1 only")
    agrees(*tensors(shape), stride, padding, passes)


ALONE = [(8, 8, 3, 1, 1), (9, 8, 3, 2, 1), (6, 7, 5, 2, 2), (4, 2, 3, 1, 1), (5, 6, 3, 2, 0), (4, 9, 3, 3, 2)]
"""Channels, height and width, kernel, stride, padding of depthwise convolutions."""


@pytest.mark.parametrize("passes", ["w", "x", "wx"])
@pytest.mark.parametrize("shape", ALONE, ids=lambda shape: "x".join(map(str, shape)))
def test_depthwise_gradients_agree_with_the_convolution_in_double_precision(shape, passes, monkeypatch):
    channels, size, kernel, stride, padding = shape
    made: list[object] = []
    for name in ("_inputs", "_weights"):
        way = getattr(depthwise, name)
        monkeypatch.setattr(depthwise, name, lambda *given, way=way: made.append(None) or way(*given))
    x, _, bias = tensors((channels, channels, size, kernel, stride, padding))
    w = torch.randn(channels, 1, kernel, kernel, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    agrees(x, w, bias, stride, padding, passes, channels)
    assert len(made) == len(passes)


def test_an_exported_graph_and_operations_in_place_take_them_too():
    """QAT trains a graph of `aten` operators; residual networks add to what a convolution gives, in place."""
    x, w, _ = tensors(SHAPES[0])
    table = {site(x, w, 1, 1): "owx"}
    plain = torch.ops.aten.conv2d.default(x, w, None, [1, 1], [1, 1])
    with torch.autocast("cpu", torch.bfloat16), other_passes(table):
        y = torch.ops.aten.conv2d.default(x, w, None, [1, 1], [1, 1])
        assert "_Convolution" in type(y.grad_fn).__name__
        y += functional.conv2d(input=x, weight=w, padding=1)
    y.float().sum().backward()
    assert (y.float() - 2 * plain).abs().max() < 0.03 * plain.abs().max() and x.grad is not None


def test_what_is_not_named_or_not_plain_is_left_alone(monkeypatch):
    for module, name in ((products, "_outputs"), (products, "_weights"), (depthwise, "_weights")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("another way was taken"))
    x, w, bias = tensors(SHAPES[0])
    named = {site(x, w, 1, 1): "ow", site(x, w[:6, :1], 1, 1): "", site(x, w[:6, :3], 1, 1): "w"}
    gradients(x, w, bias, 1, 0, named)  # another padding
    with other_passes(named):
        functional.conv2d(x, w, None, 1, 1)  # FP32
        with torch.autocast("cpu", torch.bfloat16):
            functional.conv2d(x, w[:6, :1], None, 1, 1, 1, 6).sum().backward()  # depthwise, not named
            functional.conv2d(x, w[:6, :3], None, 1, 1, 1, 2).sum().backward()  # in two groups
            functional.conv2d(x, w, None, 1, 1, 2)  # dilated
            functional.conv2d(x, w, None, 1, "same")


def test_a_depthwise_convolution_that_pads_more_than_it_reaches_keeps_its_inputs_gradient():
    assert set(depthwise.ways((3, 3), 1, 2)) == {"w", "x"} and set(depthwise.ways((3, 1), 1, 1)) == {"w"}


def test_only_convolutions_that_may_gain_are_timed(monkeypatch):
    monkeypatch.setattr(passes, "_faster_passes", lambda *_: "w")
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.Conv2d(64, 80, 3, 2, 1),
    )  # fmt: skip

    def forward(size):
        with torch.autocast("cpu", torch.bfloat16):
            return net(torch.rand(2, 3, size, size))

    depthwise, last = "64x8x8x64x1x3x3x1x1", "64x8x8x80x64x3x3x2x1"
    assert faster(lambda: forward(10)) == {"64x8x8x64x64x3x3x1x1": "w", depthwise: "w", last: "w"}
    assert set(faster(lambda: forward(16))) == {"64x14x14x64x1x3x3x1x1", "64x14x14x80x64x3x3x2x1"}
    monkeypatch.setattr(passes, "SECONDS", 0.0)
    assert faster(lambda: forward(10)) == {}


def test_a_way_is_taken_where_it_is_faster(monkeypatch):
    net = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    times = iter((1.0, 2.0, 2.0, 2.0))  # the gradient of the weights another way and as usual, then of the inputs
    monkeypatch.setattr(passes, "_seconds", lambda run: run() is not None and next(times))

    def forward():
        with torch.autocast("cpu", torch.bfloat16):
            return net(torch.rand(2, 8, 6, 6))

    assert faster(forward) == {"8x6x6x8x1x3x3x1x1": "w"}
    assert faster(forward, "o") == {}


def test_the_depthwise_gradients_decide_before_the_precision_is_chosen(tmp_path, monkeypatch):
    """Where a processor has BF16, BF16 is timed as it will train, and nothing is measured where it has none."""
    from train.helpers import depthwise_net

    monkeypatch.setattr(passes, "_faster_passes", lambda *_: "x")
    slow_without = lambda mode: 2.0 if mode.passes else 1.0 + (mode.precision == "fp32") / 2  # noqa: E731
    monkeypatch.setattr(precision, "_speed", slow_without)
    for able, chosen in (({"avx512_bf16": True}, "bf16"), ({"avx512_bf16": False, "avx2": True}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        mode = precision.choose(depthwise_net(4), InputSpec(8, 8), 4, "auto", torch.device("cpu"), tmp_path / chosen)
        assert (mode.precision, bool(mode.passes)) == (chosen, chosen == "bf16")


def test_a_network_that_only_answers_is_timed_in_its_outputs_alone(tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(products, "CHANNELS", 1)
    monkeypatch.setattr(passes, "_faster_passes", lambda *given: asked.append(given[-1]) or "o")
    monkeypatch.setattr(inference, "_speed", lambda mode: (mode.precision == "bf16") + mode.channels_last)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    mode = inference.fastest(net, InputSpec(8, 8), 4, torch.device("cpu"), tmp_path)
    assert mode.passes == {"3x8x8x4x3x3x3x1x1": "o"} and set(asked) == {"o"}
    assert inference.fastest(net, InputSpec(8, 8), 4, torch.device("cpu"), tmp_path) == mode


def test_a_training_uses_what_was_chosen_and_resumes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(products, "CHANNELS", 1)
    monkeypatch.setattr(passes, "_faster_passes", lambda *_: "ow")
    monkeypatch.setattr(precision, "_speed", lambda mode: mode.channels_last)
    made: list[object] = []
    weights = products._weights
    monkeypatch.setattr(products, "_weights", lambda *given: made.append(None) or weights(*given))
    stage = Train(epochs=2, model="digits_cnn", arguments={"width": 4}, batch=32, lr=0.05, precision="bf16")
    undisturbed = stage(None, context(tmp_path))
    assert made
    checkpoint = Kept(5)
    with pytest.raises(KeyboardInterrupt):
        stage(None, context(tmp_path, checkpoint))
    shutil.rmtree(tmp_path / "precision")  # the choice has to come from the checkpoint
    monkeypatch.setattr(passes, "_faster_passes", lambda *_: "")
    assert same_weights(undisturbed.module, stage(None, context(tmp_path, checkpoint)).module)
