"""What one layer's rounding costs is measured on the network; a budget buys bits where they are worth most."""

import pytest
import torch
from torch.nn import functional as F

from edgepress.core.errors import ConfigError
from edgepress.export.graph import trace
from edgepress.quantize.config import Budget, QuantizeConfig
from edgepress.quantize.place import place
from edgepress.quantize.ptq import quantize, sample
from edgepress.quantize.sensitivity import sensitivity, widths_for_budget
from edgepress.quantize.widths import layers
from quantize.nets import images, make


def test_the_loss_is_that_of_the_network_with_one_layer_rounded() -> None:
    model = make("Residual")
    graph = trace(model.module, model.signature)
    found = layers(graph, place(graph))
    assert list(found) == ["stem.0", "a.0", "b.0", "head.linear"]
    inputs = sample(images(8), model.signature)
    losses = sensitivity(graph, found, inputs, (2, 4))
    expected = graph(inputs).detach()
    weight = graph.get_parameter("b.0.weight")
    with torch.no_grad():
        scale = weight.abs().flatten(1).amax(1).view(-1, 1, 1, 1) / 7
        weight.copy_((weight / scale).round() * scale)
        got = graph(inputs)
    wanted = F.kl_div(got.log_softmax(1), expected.log_softmax(1), reduction="batchmean", log_target=True)
    assert losses["b.0"][4] == pytest.approx(float(wanted), rel=0.7)  # there the range is searched, here it is not
    assert all(loss[4] < loss[2] for loss in losses.values())
    assert set(sensitivity(graph, found, inputs, (2,), classes=False)) == set(found)


def test_a_budget_is_kept_and_spent_where_it_matters() -> None:
    model = make("SqueezeExcite")
    graph = trace(model.module, model.signature)
    inputs = sample(images(16), model.signature)
    found = layers(graph, place(graph))
    most, least = (
        sum(layer.bytes(b if name not in ("stem.0", "head.linear") else 8) for name, layer in found.items())
        for b in (8, 2)
    )
    assert set(widths_for_budget(graph, inputs, QuantizeConfig(budget=Budget(most))).values()) == {8}
    middle = (most + least) // 2
    bits = widths_for_budget(graph, inputs, QuantizeConfig(budget=Budget(middle), bits={"up": 3}))
    assert sum(found[name].bytes(b) for name, b in bits.items()) <= middle
    assert (bits["stem.0"], bits["head.linear"], bits["up"]) == (8, 8, 3)
    with pytest.raises(ConfigError, match=rf"budget: {least - 1:,} bytes cannot be met: .* take {least:,}"):
        widths_for_budget(graph, inputs, QuantizeConfig(budget=Budget(least - 1)))
    capped = widths_for_budget(graph, inputs, QuantizeConfig(weights=4, first_last=2, budget=Budget(most)))
    assert set(capped.values()) == {4}


def test_a_quantized_network_records_its_bits() -> None:
    result = quantize(make("Residual"), images(8), QuantizeConfig(budget=Budget(1500), first_last=4))
    bits = result.edits[-1]["bits"]
    assert result.precision == f"w{min(bits.values())}-{max(bits.values())}a8"
    widths = {site["node"]: site["bits"] for site in result.edits[-1]["sites"]}
    assert all(widths[f"{name.replace('.', '_')}_weight"] == b for name, b in bits.items())


def test_a_layer_left_in_float_keeps_its_weights_and_its_input() -> None:
    model = make("Residual")
    result = quantize(model, images(8), QuantizeConfig(bits={"b.0": 32}))
    nodes = {site["node"] for site in result.edits[-1]["sites"]}
    assert "b_0_weight" not in nodes and "relu_1" not in nodes and "a_0_weight" in nodes
    assert result.precision == "w8-32a8" and "b.0: weights" in result.edits[-1]["in_float"]


def test_a_stem_left_in_float_reads_the_image_and_is_rounded_behind_its_pool() -> None:
    model = make("Pooled")
    plain, stem = quantize(model, images(8)), quantize(model, images(8), QuantizeConfig(bits={"stem.0": 32}))
    nodes = {site["node"]: site["quantizer"] for site in stem.edits[-1]["sites"]}
    before = {site["node"] for site in plain.edits[-1]["sites"]}
    assert before - set(nodes) == {"x", "stem_0_weight", "relu"}
    assert nodes["max_pool2d"] == "max_pool2d"
    both = quantize(model, images(8), QuantizeConfig(bits={"stem.0": 32, "conv.0": 32}))
    assert "max_pool2d" not in {site["node"] for site in both.edits[-1]["sites"]}


def test_layers_that_are_not_there_are_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no layer 'a\.1'; did you mean 'a\.0'"):
        quantize(make("Residual"), images(8), QuantizeConfig(bits={"a.1": 4}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (QuantizeConfig(weights=1), "weights: 1 bits"),
        (QuantizeConfig(weights=9), "weights: 9 bits"),
        (QuantizeConfig(activations=16), "activations: 16 bits"),
        (QuantizeConfig(first_last=0), "first_last: 0 bits"),
        (QuantizeConfig(bits={"a.0": 12}), r"bits: a\.0: 12 bits"),
        (QuantizeConfig(budget=Budget()), "budget: give the bytes"),
        (QuantizeConfig(budget=Budget(bytes=-4)), "budget: give the bytes"),
        (QuantizeConfig(budget=Budget(ms=2.5)), "milliseconds do not depend on the bits of weights"),
    ],
)
def test_what_cannot_be_is_refused(config: QuantizeConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quantize(make("Residual"), images(8), config)
