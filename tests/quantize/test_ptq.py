import copy
import dataclasses

import numpy as np
import pytest
import torch

from edgepress.core.errors import BundleError, ConfigError, DataError, EdgepressError
from edgepress.export.fake import Quantizer
from edgepress.export.graph import trace
from edgepress.models.edits import replay
from edgepress.models.predictor import TorchPredictor
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.quantize.stages import Quantize
from quantize.nets import NETS, images, make, quantized


@pytest.mark.parametrize("name", NETS)
def test_a_quantized_network_stays_close(name: str) -> None:
    model, seen = make(name), images(24)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    result = quantize(model, seen)
    expected, got = TorchPredictor(model)(seen), TorchPredictor(result)(seen)
    assert np.sqrt(np.mean((expected - got) ** 2)) < 0.05 * np.sqrt(np.mean(expected**2))
    assert not np.array_equal(expected, got)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert result.precision == "w8a8" and model.precision == "fp32"


def test_same_input_same_result() -> None:
    a, b = quantized("Residual").module.state_dict(), quantize(make("Residual"), images(24)).module.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_replaying_the_edit_and_loading_the_weights_is_bit_identical() -> None:
    model = make("SqueezeExcite")
    result = quantized("SqueezeExcite")
    again = replay(model.module, model.signature, result.edits)
    again.load_state_dict(result.module.state_dict(), strict=True)
    loaded = dataclasses.replace(result, module=again)
    assert np.array_equal(TorchPredictor(loaded)(images()), TorchPredictor(result)(images()))


def test_a_damaged_record_is_an_error() -> None:
    model = make("Residual")
    edit = quantized("Residual").edits[0]
    with pytest.raises(BundleError, match="damaged"):
        replay(make("Residual").module, model.signature, [{**edit, "sites": [{"node": "relu"}]}])
    with pytest.raises(BundleError, match="no place"):
        replay(make("Concat").module, model.signature, [edit])


def test_bias_correction_keeps_the_mean() -> None:
    model, seen = make("SqueezeExcite"), images(32)
    expected = TorchPredictor(model)(seen).mean(0)
    off = [
        np.abs(TorchPredictor(quantize(model, seen, QuantizeConfig(bias_correction=b)))(seen).mean(0) - expected).max()
        for b in (True, False)
    ]
    assert off[0] < 0.2 * off[1]


def test_biases_are_whole_numbers_of_their_unit() -> None:
    module = quantized("Residual").module
    unit = module.quantizers.relu.scale * module.quantizers.a_0_weight.scale  # type: ignore[union-attr]
    codes = module.get_parameter("a.0.bias").detach().double() / unit.double()
    assert (codes - codes.round()).abs().max() < 1e-2 and codes.abs().max() > 100


def test_dead_channels_and_constant_activations() -> None:
    model = make("Residual")
    with torch.no_grad():
        model.module.a[0].weight[3] = 0  # a dead channel, whose bias would need endless codes  # type: ignore[index]
        model.module.stem[1].weight.zero_()  # the stem gives constants  # type: ignore[index]
        model.module.stem[1].bias.fill_(-1)  # which the ReLU makes zero  # type: ignore[index]
    quantized = quantize(model, images())
    got, expected = TorchPredictor(quantized)(images()), TorchPredictor(model)(images())
    assert np.isfinite(got).all() and np.abs(got - expected).max() < 0.1 * np.abs(expected).max()
    assert all((q.scale > 0).all() for q in quantized.module.modules() if isinstance(q, Quantizer))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (images()[:0], "no calibration images"),
        (images()[:, :4], r"\(N, 8, 8, 3\)"),
        (images().astype(np.float32), "float32"),
        (np.full((4, 8, 8, 3), 7, np.uint8), "one flat color"),
    ],
)
def test_bad_images(bad: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        quantize(make("Residual"), bad)


def test_weights_that_are_not_finite_are_named() -> None:
    model = make("Residual")
    with torch.no_grad():
        model.module.a[0].weight[0, 0, 0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(EdgepressError, match=r"a\.0\.weight"):
        quantize(model, images())


def test_activations_that_overflow_are_named() -> None:
    model = make("Residual")
    with torch.no_grad():
        model.module.stem[0].weight.fill_(3e38)  # type: ignore[index]
    with pytest.raises(EdgepressError, match="not finite"):
        quantize(model, images())


def test_other_bit_widths_and_second_helpings_are_refused() -> None:
    with pytest.raises(ConfigError, match="weights: 1 bits"):
        quantize(make("Residual"), images(), QuantizeConfig(weights=1))
    assert len(Quantize(weights=9, activations=1, calibrate=0).check()) == 3
    assert Quantize().check() == []
    with pytest.raises(EdgepressError, match="already"):
        quantize(quantized("Residual"), images())


def test_a_quantized_network_can_be_trained() -> None:
    module = copy.deepcopy(quantized("SqueezeExcite").module).train()
    module(torch.randn(2, 3, 8, 8)).square().sum().backward()
    grads = [p.grad for p in module.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads) and any((g != 0).any() for g in grads)  # type: ignore[union-attr]


def test_a_trace_made_before_serves_as_well_and_stays_untouched() -> None:
    model = make("SqueezeExcite")
    traced = trace(model.module, model.signature)
    results = [quantize(model, images(8), QuantizeConfig(equalization=True), traced) for _ in range(2)]
    results.append(quantize(model, images(8), QuantizeConfig(equalization=True)))
    states = [result.module.state_dict() for result in results]
    assert all(state.keys() == states[0].keys() for state in states) and results[0].edits == results[2].edits
    assert all(torch.equal(state[k], states[0][k]) for state in states for k in state)


def test_a_graph_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = make("Residual"), images(8)
    wrong = trace(model.module, model.signature)
    with torch.no_grad():
        next(p for p in wrong.parameters() if p.dim() > 1).mul_(1.5)
    monkeypatch.setattr("edgepress.quantize.ptq.trace", lambda *arguments: wrong)
    with pytest.raises(EdgepressError, match="computes something else than the network"):
        quantize(model, seen)
