"""Convolutions as matrix products: the same numbers, where they are asked for, and a resumed training keeps them."""

import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepress.core.inputs import InputSpec
from edgepress.train import inference, precision, products, training
from edgepress.train.products import faster, matrix_products, site
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


def gradients(x, w, bias, stride, padding, table):
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), matrix_products(table):
        y = functional.conv2d(x, w, bias, stride, padding)
    y.float().square().sum().backward()
    return y.float(), x.grad, w.grad


@pytest.mark.parametrize("passes", ["o", "w", "x", "owx"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_every_pass_agrees_with_the_convolution_in_double_precision(shape, passes):
    *_, stride, padding = shape
    if stride > 1 and "x" in passes:
        pytest.skip("the gradient of the inputs is a product at stride 1 only")
    x, w, bias = tensors(shape)
    exact = x.detach().double().requires_grad_(), w.detach().double().requires_grad_()
    y = functional.conv2d(*exact, bias.double(), stride, padding)
    y.square().sum().backward()
    found = gradients(x, w, bias, stride, padding, {site(x, w, stride, padding): passes})
    for mine, right in zip(found, (y, exact[0].grad, exact[1].grad), strict=True):
        assert (mine - right).abs().max() <= 0.02 * right.abs().max()


def test_what_is_not_named_or_not_plain_is_left_alone(monkeypatch):
    monkeypatch.setattr(products, "_outputs", lambda *_: pytest.fail("a product was made"))
    monkeypatch.setattr(products, "_weights", lambda *_: pytest.fail("a product was made"))
    x, w, bias = tensors(SHAPES[0])
    named = {site(x, w, 1, 1): "ow"}
    gradients(x, w, bias, 1, 0, named)  # another padding
    with matrix_products(named):
        functional.conv2d(x, w, None, 1, 1)  # FP32
        with torch.autocast("cpu", torch.bfloat16):
            functional.conv2d(x, w[:6, :1], None, 1, 1, 1, 6)  # depthwise
            functional.conv2d(x, w, None, 1, 1, 2)  # dilated
            functional.conv2d(x, w, None, 1, "same")


def test_only_convolutions_that_may_gain_are_timed(monkeypatch):
    monkeypatch.setattr(products, "_faster_passes", lambda *_: "w")
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 80, 3, 2, 1))

    def forward(size):
        with torch.autocast("cpu", torch.bfloat16):
            return net(torch.rand(2, 3, size, size))

    assert faster(lambda: forward(10)) == {"64x8x8x64x64x3x3x1x1": "w", "64x8x8x80x64x3x3x2x1": "w"}
    assert faster(lambda: forward(16)) == {"64x14x14x80x64x3x3x2x1": "w"}
    monkeypatch.setattr(products, "SECONDS", 0.0)
    assert faster(lambda: forward(10)) == {}


def test_a_network_that_only_answers_is_timed_in_its_outputs_alone(tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(products, "CHANNELS", 1)
    monkeypatch.setattr(products, "_faster_passes", lambda *given: asked.append(given[-1]) or "o")
    monkeypatch.setattr(inference, "_speed", lambda mode: (mode.precision == "bf16") + mode.channels_last)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    mode = inference.fastest(net, InputSpec(8, 8), 4, torch.device("cpu"), tmp_path)
    assert mode.products == {"3x8x8x4x3x3x3x1x1": "o"} and set(asked) == {"o"}
    assert inference.fastest(net, InputSpec(8, 8), 4, torch.device("cpu"), tmp_path) == mode


def test_a_training_uses_what_was_chosen_and_resumes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(products, "CHANNELS", 1)
    monkeypatch.setattr(products, "_faster_passes", lambda *_: "ow")
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
    monkeypatch.setattr(products, "_faster_passes", lambda *_: "")
    assert same_weights(undisturbed.module, stage(None, context(tmp_path, checkpoint)).module)
