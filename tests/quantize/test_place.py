from functools import cache

import pytest
import torch
from torch import nn

from edgepress.core.errors import BundleError, EdgepressError
from edgepress.export.graph import trace
from edgepress.quantize.observe import Extremes
from edgepress.quantize.place import Placement, Site, insert, place
from quantize.nets import make


@cache
def placement(name: str) -> Placement:
    model = make(name)
    return place(trace(model.module, model.signature))


def sites_of(name: str) -> dict[str, Site]:
    return {site.node: site for site in placement(name).sites}


def test_activations_are_rounded_after_the_clamp_only() -> None:
    sites = sites_of("Residual")
    assert {"x", "relu", "relu_1", "b_0_conv2d", "relu_2", "head_adaptive_avg_pool2d"} <= set(sites)
    assert not {"stem_0_conv2d", "a_0_conv2d", "add_tensor", "add", "head_linear"} & set(sites)


def test_moved_values_share_their_quantizer() -> None:
    sites = sites_of("Residual")
    assert sites["pad"].quantizer == "relu"
    assert sites["head_reshape"].quantizer == "head_adaptive_avg_pool2d"
    upsampled = next(site for node, site in sites_of("Concat").items() if "upsample" in node)
    assert upsampled.quantizer == "relu_1"


def test_weights_have_a_scale_per_output_channel() -> None:
    site = sites_of("Residual")["a_0_weight"]
    assert (site.signed, site.axis, site.channels) == (True, 0, 16)


def test_what_stays_in_float_is_named_with_its_module() -> None:
    assert placement("Gelu").in_float == ("(network): gelu",)
    for name in ("Residual", "SqueezeExcite", "Silu", "PreActivation", "Concat", "Shuffle"):
        assert placement(name).in_float == (), name


def test_nothing_to_quantize_is_an_error() -> None:
    with pytest.raises(EdgepressError, match="no convolution"):
        place(trace(nn.Flatten(), make("Residual").signature))


def test_a_recorded_site_that_is_not_there_is_an_error() -> None:
    model = make("Residual")
    graph = trace(model.module, model.signature)
    with pytest.raises(BundleError, match="'elsewhere'"):
        insert(graph, (Site("elsewhere", "elsewhere", 8, False, None, 1),))


def test_inserted_quantizers_are_used() -> None:
    model = make("Residual")
    graph = trace(model.module, model.signature)
    sites = place(graph).sites
    quantizers = insert(graph, sites)
    assert set(quantizers) == {site.quantizer for site in sites}
    seen = {name: Extremes() for name in quantizers}
    for name, quantizer in quantizers.items():
        quantizer.enabled, quantizer.observer = False, seen[name]
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(graph(x), model.module(x))
    assert all(s.low < s.high for s in seen.values()) and seen["x"].high == x.max()
