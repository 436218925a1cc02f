"""Zero-cost proxies: more width scores higher, the same network the same, and what a proxy cannot see it says."""

import pytest
import torch
from torch import nn

from edgepress.core.errors import EdgepressError
from edgepress.search.proxies.base import proxies
from prune.helpers import small

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", list(proxies))
def test_width_counts_and_the_score_repeats(name: str) -> None:
    scores = [proxies.get(name)(small("cifar_resnet8", 16, width=width).module, IMAGES) for width in (2, 8, 8)]
    assert scores[0] < scores[1] == scores[2]


def test_synflow_of_two_layers_by_hand() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0]]))
        module[2].weight.copy_(torch.tensor([[-1.0, 2.0]]))
    paths = 1 * (1 + 2) + 2 * (3 + 4)
    found = proxies.get("synflow")(module, torch.zeros(1, 1, 1, 2))
    assert found == pytest.approx(torch.tensor(2.0 * paths).log().item())


def test_naswot_by_hand_and_without_activations() -> None:
    module = nn.Sequential(nn.Flatten(), nn.ReLU())
    images = torch.tensor([[1.0, -1.0, 1.0, 1.0], [1.0, 1.0, -1.0, 1.0]]).view(2, 1, 2, 2)
    kernel = torch.tensor([[4.0, 2.0], [2.0, 4.0]])
    assert proxies.get("naswot")(module, images) == pytest.approx(kernel.logdet().item())
    with pytest.raises(EdgepressError, match="no activation modules"):
        proxies.get("naswot")(nn.Sequential(nn.Flatten()), images)
