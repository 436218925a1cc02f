"""Checkpoints: every usual wrapping loads, nothing else does, and no code of a pickle runs."""

import pickle

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from edgepress.core.errors import BundleError, EdgepressError
from edgepress.models.weights import load_weights


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_usual_wrappings(wrapper, prefix, tmp_path) -> None:
    source, target = net(), net()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3, "args": {"lr": 0.1}} if wrapper else state, tmp_path / "w.th")
    load_weights(target, tmp_path / "w.th")
    assert torch.equal(target[0].weight, source[0].weight)


def test_safetensors_and_old_checkpoints(tmp_path) -> None:
    source, target = net(), net()
    state = source.state_dict()
    del state["1.num_batches_tracked"]
    save_file(state, tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(target[0].weight, source[0].weight)


def test_a_network_whose_own_names_begin_like_a_prefix(tmp_path) -> None:
    source, target = nn.ModuleDict({"module": net()}), nn.ModuleDict({"module": net()})
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target["module"][0].weight, source["module"][0].weight)


class Evil:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.parametrize("how", ["zip", "legacy", "plain"])
def test_malicious_pickle_is_refused_and_runs_nothing(how, tmp_path) -> None:
    path, proof = tmp_path / "w.pt", tmp_path / "it-ran"
    content = {"state_dict": net().state_dict(), "x": Evil(str(proof))}
    if how == "plain":
        path.write_bytes(pickle.dumps(content["x"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    module = net()
    before = module[0].weight.clone()
    with pytest.raises(BundleError, match="a pickle can run code"):
        load_weights(module, path)
    assert not proof.exists()
    assert torch.equal(module[0].weight, before)


def test_mismatches_are_named(tmp_path) -> None:
    state = net().state_dict()
    state["0.weights"] = state.pop("0.weight")
    state["1.bias"] = torch.zeros(4)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(EdgepressError) as caught:
        load_weights(net(), tmp_path / "w.pt")
    text = str(caught.value)
    assert "1 names missing:\n    0.weight (nearest there: 0.weights)" in text
    assert "1 names not known here:\n    0.weights (nearest there: 0.weight)" in text
    assert "1.bias is (4,) there, (2,) in this network" in text


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_part_may_stay_as_it_is(prefix, tmp_path) -> None:
    source, target = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5)), nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    torch.save({prefix + name: value for name, value in source.state_dict().items()}, tmp_path / "w.pt")
    before = target[1].weight.clone()
    with pytest.raises(EdgepressError, match="classes are others, `head: new` of the stage `load`"):
        load_weights(target, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt", keep="1")
    assert torch.equal(target[0].weight, source[0].weight)
    assert torch.equal(target[1].weight, before)
    with pytest.raises(EdgepressError, match=r"0\.weight is") as caught:  # another width is no matter of classes
        load_weights(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 4)), tmp_path / "w.pt", keep="1")
    assert "head: new" not in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(bad, tmp_path) -> None:
    state = net().state_dict()
    state["0.bias"][1] = bad
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BundleError, match=r"NaN or infinite weights in 1 tensors \(0.bias\): the training"):
        load_weights(net(), tmp_path / "w.pt")


def test_files_that_are_no_state_dict(tmp_path) -> None:
    path = tmp_path / "w.pt"
    with pytest.raises(EdgepressError, match="there is no weights file"):
        load_weights(net(), path)
    torch.save([1, 2], path)
    with pytest.raises(BundleError, match="holds a list, not a state dict"):
        load_weights(net(), path)
    torch.save({"epoch": 3, "weights": net().state_dict()}, path)
    with pytest.raises(BundleError, match=r"2 of its entries are no tensors \('epoch', 'weights'\)"):
        load_weights(net(), path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    torch.save(net().state_dict(), folder / "w.pt")
    torch.save(net().state_dict(), folder / "w.th", _use_new_zipfile_serialization=False)
    save_file(net().state_dict(), folder / "w.safetensors")
    return folder


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["w.pt", "w.th", "w.safetensors"]), st.floats(0, 0.999), st.binary(min_size=0, max_size=3))
def test_truncated_files(files, name, share, tail) -> None:
    whole = (files / name).read_bytes()
    damaged = files / f"cut-{name}"
    damaged.write_bytes(whole[: int(len(whole) * share)] + tail)
    assume(damaged.stat().st_size < len(whole))
    try:
        load_weights(net(), damaged)
    except EdgepressError as error:
        assert str(damaged) in str(error)
    else:
        # The last bytes of an archive may be padding; whatever loads must then be all of it.
        assert share > 0.9 and name != "w.safetensors"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["w.pt", "w.th", "w.safetensors"]), st.integers(0, 4000), st.binary(min_size=1, max_size=8))
def test_overwritten_files_load_or_raise_our_error(files, name, place, junk) -> None:
    whole = bytearray((files / name).read_bytes())
    place %= len(whole)
    whole[place : place + len(junk)] = junk
    damaged = files / f"bad-{name}"
    damaged.write_bytes(whole)
    try:
        load_weights(net(), damaged)
    except EdgepressError as error:
        assert str(damaged) in str(error)


def test_a_file_without_tensors_is_refused(tmp_path) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(BundleError, match="not a state dict"):
        load_weights(nn.Linear(2, 2), tmp_path / "empty.safetensors")
