"""Kernel and resolution as arguments of a network, for a search to choose."""

import pytest
import torch
from torch import nn

from edgepress.core.artifact import Signature
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.models.build import new_model
from edgepress.models.count import count_macs, count_params

SIGNATURE = Signature("classification", InputSpec(32, 32), tuple("abcd"))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0"])
def test_the_large_kernels_can_be_smaller(name: str) -> None:
    sizes = {}
    for kernel in (3, 5, 7):
        module = new_model(name, SIGNATURE, {"width": 0.25, "kernel": kernel}, 0).module
        depthwise = [part for part in module.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
        sizes[kernel] = {part.kernel_size for part in depthwise}
        assert module.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    assert sizes == {3: {(3, 3)}, 5: {(3, 3), (5, 5)}, 7: {(3, 3), (7, 7)}}
    with pytest.raises(ConfigError, match="kernel must be odd and from 1 to 11, got 4"):
        new_model(name, SIGNATURE, {"kernel": 4}, 0)


def test_a_smaller_image_costs_less_and_is_what_the_network_sees() -> None:
    whole = new_model("cifar_resnet8", SIGNATURE, {"width": 8}, 0)
    small = new_model("resized", SIGNATURE, {"of": "cifar_resnet8", "side": 16, "width": 8}, 0)
    assert count_params(small.module) == count_params(whole.module)
    assert 3.9 < count_macs(whole.module, SIGNATURE) / count_macs(small.module, SIGNATURE) < 4.1
    image = torch.rand(2, 3, 16, 16).repeat_interleave(2, 2).repeat_interleave(2, 3)
    inner = small.module.get_submodule("net").eval()
    assert torch.allclose(small.module.eval()(image), inner(image[:, :, ::2, ::2]), atol=1e-5)
    same = new_model("resized", SIGNATURE, {"of": "cifar_resnet8", "side": 32, "width": 8}, 0).module.eval()
    given = torch.rand(2, 3, 32, 32)
    assert torch.allclose(same(given), same.get_submodule("net")(given), atol=1e-6)


def test_stages_of_a_resnet_one_by_one() -> None:
    by_hand = new_model("cifar_resnet8", SIGNATURE, {}, 0).module.state_dict()
    as_it_stands = new_model("cifar_resnet", SIGNATURE, {}, 0).module.state_dict()
    assert as_it_stands.keys() == by_hand.keys()
    assert all(torch.equal(as_it_stands[name], by_hand[name]) for name in by_hand)
    module = new_model("cifar_resnet", SIGNATURE, {"blocks": [0, 1, 3], "widths": [8, 24, 16]}, 0).module
    depths = [len(list(module.get_submodule(f"layer{stage}").children())) for stage in (1, 2, 3)]
    assert depths == [0, 1, 3]
    assert module.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"of": "cifar_resnet8", "side": 40}, "from 1 to 32, the shorter side of the images, got 40"),
        ({"of": "cifar_resnet8", "side": 0}, "got 0"),
        ({"of": "cifar_resnet9", "side": 16}, "did you mean 'cifar_resnet"),
        ({"of": "cifar_resnet8", "side": 16, "widht": 8}, "takes no argument 'widht'"),
        ({"of": "unet", "side": 16}, "must name a classifier, 'unet' is a network for segmentation"),
        ({"side": 16}, "needs a value for its argument 'of'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(Exception, match=words):
        new_model("resized", SIGNATURE, arguments, 0)
