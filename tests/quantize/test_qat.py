"""Preparing for a training and finishing after it change nothing but what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.core.errors import EdgepressError
from edgepress.export.fake import Quantizer, Scheme, fake_quantize
from edgepress.models.structure import load_model, save_model
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.quantize.qat import finish, prepare
from quantize.nets import images, make

NAMES = ("Residual", "SqueezeExcite")


def config(weights: int, activations: int) -> QuantizeConfig:
    return QuantizeConfig(weights=weights, activations=activations, bias_correction=False)


def disturb(module: nn.Module) -> None:
    """Change batch norms and step sizes as a training would, signs included."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator))
                part.running_mean.add_(0.1 * torch.randn(part.weight.shape, generator=generator))  # type: ignore[union-attr]
                part.running_var.mul_(1.5)  # type: ignore[union-attr]
            if isinstance(part, Quantizer) and part.learned:
                part.scale.mul_(1.1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [(2, 8), (3, 8), (4, 4)])
def test_folding_after_the_training_is_exact(name: str, bits: tuple[int, int]) -> None:
    network = make(name)
    prepared = prepare(quantize(network, images(), config(*bits)))
    disturb(prepared.module)
    prepared.module.eval()
    x = torch.randn(4, *network.signature.input.shape)
    with torch.no_grad():
        before = prepared.module(x)
        finished = finish(prepared, images())
        for part in finished.module.modules():  # what the training did not see
            if isinstance(part, Quantizer) and part.scheme.bits == 8:
                part.enabled = False
        after = finished.module(x)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in finished.module.modules())
    torch.testing.assert_close(after, before, rtol=2e-3, atol=2e-3 * float(before.abs().max()))


def test_two_bits_are_four_odd_codes() -> None:
    prepared = prepare(quantize(make("Residual"), images(), config(2, 8)))
    finished = finish(prepared, images())
    weight = finished.module.get_parameter("a.0.weight")
    scale = finished.module.get_buffer("quantizers.a_0_weight.scale")
    codes = (weight / scale.view(-1, 1, 1, 1)).round().unique()
    assert set(codes.tolist()) == {-3.0, -1.0, 1.0, 3.0}


def test_the_record_makes_the_same_network_again(tmp_path) -> None:
    finished = replace(finish(prepare(quantize(make("Residual"), images(), config(2, 2))), images()), key="k")
    save_model(finished, tmp_path / "m")
    again = load_model(tmp_path / "m")
    x = torch.randn(4, *finished.signature.input.shape)
    with torch.no_grad():
        assert torch.equal(finished.module(x), again.module.eval()(x))


def test_a_network_in_floating_point_is_refused() -> None:
    with pytest.raises(EdgepressError, match="quantized"):
        prepare(make("Residual"))


@pytest.mark.parametrize("scheme", [Scheme(4, False), Scheme(3, True, 0), Scheme(8, False), Scheme(8, True, 0)])
def test_learning_rounds_as_the_exported_operation_does(scheme: Scheme) -> None:
    quantizer = Quantizer(scheme, 1 if scheme.axis is None else 5)
    x = torch.randn(5, 40)
    quantizer.set_range(x.amin(1) if scheme.axis == 0 else x.amin(), x.amax(1) if scheme.axis == 0 else x.amax())
    plain = quantizer(x)
    quantizer.learn()
    torch.testing.assert_close(quantizer(x).detach(), plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scheme", [Scheme(4, False), Scheme(3, True, 0)])
def test_the_gradients_are_those_of_the_exported_operation(scheme: Scheme) -> None:
    quantizer = Quantizer(scheme, 1 if scheme.axis is None else 5)
    x = torch.randn(5, 40, requires_grad=True)
    slope = torch.randn(5, 40)
    quantizer.set_range(torch.full((1,), -1.0), torch.full((1,), 1.3))
    axis = -1 if scheme.axis is None else scheme.axis
    scale = quantizer.scale.clone().requires_grad_()
    (fake_quantize(x, scale, quantizer.zero_point, axis, scheme.qmin, scheme.qmax) * slope).sum().backward()
    assert x.grad is not None and scale.grad is not None
    wanted = x.grad.clone()
    x.grad = None
    quantizer.learn()
    (quantizer(x) * slope).sum().backward()
    torch.testing.assert_close(x.grad, wanted)
    # LSQ divides by the root of (values behind one scale) x (highest code); per tensor those of one image.
    share = (40 * scheme.qmax) ** -0.5
    torch.testing.assert_close(quantizer.scale.grad, scale.grad * share, rtol=1e-3, atol=1e-4)


def test_step_sizes_learn_what_the_error_asks_for() -> None:
    quantizer = Quantizer(Scheme(2, False))
    x = torch.rand(64, 100)
    quantizer.set_range(torch.tensor(0.0), torch.tensor(8.0))
    quantizer.learn()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=3.0)
    for _ in range(300):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    # The best step for a uniform variable in [0, 1] with codes 0 to 3 is 2/7: half a step lost at the upper end.
    assert np.isclose(quantizer.scale.item(), 2 / 7, atol=0.02)


def test_a_share_of_a_weight_is_rounded_in_training_and_all_of_it_after() -> None:
    quantizer = Quantizer(Scheme(3, True, 0), 4)
    x = torch.randn(4, 5000)
    quantizer.set_range(x.amin(1), x.amax(1))
    quantizer.learn()
    whole = quantizer(x)
    quantizer.rounded = 0.25
    with torch.random.fork_rng():
        torch.manual_seed(0)
        part, other = quantizer(x), quantizer(x)
    assert ((part == whole) | (part == x)).all() and not torch.equal(part, other)
    assert abs(float((part != x).float().mean()) - 0.25) < 0.02
    assert torch.equal(quantizer.eval()(x), whole)
