"""What holds for every data set that needs no files, and what is special to each of them."""

from typing import Any

import numpy as np
import pytest

from edgepress.core.config import dump, parse
from edgepress.core.errors import ConfigError, UnknownNameError
from edgepress.data.base import datasets
from edgepress.data.load import found, load_data, read_source
from edgepress.data.sets.digits import Digits
from edgepress.data.sets.shapes import VOID, Shapes
from edgepress.data.sets.synthetic import Synthetic

SMALL: dict[str, dict[str, Any]] = {
    "digits": {},
    "synthetic": {"train": 80, "val": 16, "test": 16, "size": 16},
    "shapes": {"train": 20, "val": 5, "test": 6},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_set_is_whole_and_the_same_every_time(name: str) -> None:
    first, second = load_data({name: SMALL[name]}), load_data({name: SMALL[name]})
    assert first.fingerprint == second.fingerprint and len(first.fingerprint) == 64
    for split in ("train", "val", "test"):
        part = getattr(first, split)
        images, targets = part.read(np.arange(len(part)))
        channels, height, width = first.input.shape
        assert images.dtype == np.uint8 and images.shape[1:] == (height, width, channels)
        assert targets.dtype == np.int64 and part.resident
        assert set(np.unique(targets)) - {VOID} == set(range(len(first.labels)))
        assert np.array_equal(images, getattr(second, split).read(np.arange(len(part)))[0])
        assert targets.shape == ((len(part),) if first.task == "classification" else (len(part), height, width))


@pytest.mark.parametrize("name", SMALL)
def test_splits_share_no_image_and_the_seed_changes_them(name: str) -> None:
    data = load_data({name: SMALL[name]})
    seen = [
        image.tobytes() for part in (data.train, data.val, data.test) for image in part.read(np.arange(len(part)))[0]
    ]
    duplicates = len(seen) - len(set(seen))
    assert duplicates == 0
    assert load_data({name: {**SMALL[name], "seed": 1}}).fingerprint != data.fingerprint
    assert load_data({name: {**SMALL[name], "limit": 12}}).fingerprint != data.fingerprint
    assert len(load_data({name: {**SMALL[name], "limit": 12}}).train) == 12


@pytest.mark.parametrize("name", sorted(datasets))
def test_every_source_is_registered_and_goes_through_plain_data_and_back(name: str) -> None:
    fields = {"root": "somewhere"} if name in ("folder", "masks") else {}
    source = parse(datasets.get(name), fields)
    assert parse(datasets.get(name), dump(source)) == source
    assert datasets.get(name).__doc__


def test_found_lists_every_set_with_a_reason_where_it_is_absent() -> None:
    reasons = dict(found())
    assert list(reasons) == sorted(datasets)
    assert reasons["digits"] is None and reasons["shapes"] is None
    assert "root" in (reasons["folder"] or "") and "cifar100" in (reasons["cifar100"] or "")
    assert "EDGEPRESS_DATA" in (reasons["imagenet"] or "")


def test_a_source_is_read_from_a_name_a_mapping_or_itself() -> None:
    assert read_source("digits") == read_source({"digits": {}}) == read_source({"digits": None}) == Digits()
    source = Digits(seed=3)
    assert read_source(source) is source


@pytest.mark.parametrize("given", [{}, {"digits": {}, "shapes": {}}, ["digits"], 3])
def test_anything_but_one_name_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="expected one name"):
        read_source(given)


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="cifar10"):
        read_source("cifar_10")


def test_digits_are_stratified_and_use_the_whole_range() -> None:
    data = Digits().load()
    assert (len(data.train), len(data.val), len(data.test)) == (1257, 180, 360)
    images, targets = data.train.read(np.arange(len(data.train)))
    assert images.min() == 0 and images.max() == 255
    assert np.bincount(targets).min() > 115
    assert np.allclose(images.mean() / 255, data.input.mean, atol=0.005)
    assert np.allclose(images.std() / 255, data.input.std, atol=0.005)


def test_a_plain_correlation_tells_gratings_apart() -> None:
    """The power spectrum, which ignores the phase, separates the classes: there is something to learn."""
    data = Synthetic(classes=6, train=300, val=12, test=60, channels=1).load()

    def spectra(split: Any) -> tuple[np.ndarray, np.ndarray]:
        images, targets = split.read(np.arange(len(split)))
        power = np.abs(np.fft.fft2(images[..., 0] - images[..., 0].mean((1, 2), keepdims=True)))
        flat = power.reshape(len(power), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True), targets

    known, labels = spectra(data.train)
    asked, truth = spectra(data.test)
    centers = np.stack([known[labels == number].mean(0) for number in range(6)])
    assert ((asked @ centers.T).argmax(1) == truth).mean() > 0.9
    assert data.input.color == "L"


def test_shapes_have_a_void_outline_and_every_class() -> None:
    data = Shapes(train=40, val=5, test=5).load()
    _, maps = data.train.read(np.arange(40))
    assert data.task == "segmentation" and data.labels[0] == "ground"
    share = np.bincount(maps.ravel(), minlength=256) / maps.size
    assert share[0] > 0.5 and share[1:4].min() > 0.01 and 0.005 < share[VOID] < 0.2
    shape = (maps > 0) & (maps < VOID)
    beside_ground = (shape[:, 1:] & (maps[:, :-1] == 0)) | (shape[:, :-1] & (maps[:, 1:] == 0))
    assert not beside_ground.any(), "between a shape and the ground lies its outline"


@pytest.mark.parametrize(
    "given",
    [
        {"digits": {"test": 1700}},
        {"synthetic": {"classes": 1}},
        {"synthetic": {"noise": -1}},
        {"shapes": {"size": 8}},
        {"shapes": {"test": 0}},
    ],
)
def test_impossible_fields_are_config_errors(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read_source(given)
