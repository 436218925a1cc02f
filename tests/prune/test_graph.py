"""Groups of coupled layers: cutting a unit does what masking it does, and what cannot be cut is named."""

import copy

import pytest
import torch
from torch import nn

from edgepress.core.errors import ConfigError
from edgepress.prune.blocks import drop, find_blocks
from edgepress.prune.graph import Graph, _norms_passed_by, find_sites, mask
from prune.helpers import Branches, small


def cut_equals_mask(model) -> int:
    found = find_sites(model.module, model.signature)
    gone = {site.path: list(range(0, len(site.units) - 1, 3)) for site in found.sites}
    masked, cut = copy.deepcopy(model.module).eval(), copy.deepcopy(model.module)
    mask(masked, found.sites, gone)
    graph = Graph(cut, model.signature)
    for site in found.sites:
        graph.cut(site, gone[site.path])
    x = torch.randn(2, *model.signature.input.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), _norms_passed_by(masked), _norms_passed_by(cut):
        torch.testing.assert_close(cut(x), masked(x), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(masked(x), model.module.eval()(x), rtol=1e-3, atol=1e-4), "masking changes something"
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in model.module.parameters())
    return len(found.sites)


def test_cutting_is_masking_through_sums_groups_concatenations_gates_and_flattened_maps() -> None:
    assert cut_equals_mask(small("branches")) >= 4


@pytest.mark.parametrize("name", ["densenet_bc100", "mobilenet_v3_small"])
def test_cutting_is_masking_in_families(name: str) -> None:
    assert cut_equals_mask(small(name)) > 8


def test_units_of_a_grouped_convolution_take_the_same_place_of_every_group() -> None:
    model = small("branches")
    sites = find_sites(model.module, model.signature).sites
    feeding = next(s for s in sites if any(m.path == "grouped" and m.side == "in" for m in s.members))
    assert {len(unit) for unit in feeding.units} == {4}
    assert all(len({channel % 4 for channel in unit}) == 1 for unit in feeding.units)


def test_protected_layers_and_what_hangs_on_them_stay_and_say_why() -> None:
    model = small("branches")
    found = find_sites(model.module, model.signature, ("inner.2", "gate"))
    made = {m.path for site in found.sites for m in site.members if m.side == "out"}
    assert "inner.0" in made and not made & {"stem", "inner.2", "gate.1", "gate.3", "grouped", "side"}
    assert {"protected", "coupled to protected 'gate.3'"} <= set(found.fixed.values())
    assert "nothing takes its channels further" in found.fixed["head"]


def test_a_glob_that_matches_nothing_names_the_nearest_layer() -> None:
    model = small("branches")
    with pytest.raises(ConfigError, match=r"'inner\.4'.*did you mean 'inner\.[02]'"):
        find_sites(model.module, model.signature, ("inner.4",))


def test_a_tied_layer_stays() -> None:
    model = small("branches")
    module = model.module
    assert isinstance(module, Branches)
    module.twin = nn.Conv2d(16, 24, 1)
    module.twin.weight = module.inner[0].weight
    found = find_sites(module, model.signature)
    assert "tied" in found.fixed["inner.0"]


def test_a_block_whose_branch_is_silent_can_go() -> None:
    model = small("cifar_resnet20")
    sites = find_sites(model.module, model.signature).sites
    blocks = find_blocks(model.module, model.signature, sites)
    assert blocks and all(sites[number].path.startswith(b.path) for b in blocks for number in b.sites)
    module = copy.deepcopy(model.module).eval()
    drop(module, blocks[0])
    assert isinstance(module.get_submodule(blocks[0].path), nn.Identity)
    assert module(torch.zeros(1, *model.signature.input.shape)).shape == (1, 10)
