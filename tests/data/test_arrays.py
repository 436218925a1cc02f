import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepress.data.arrays import ArraySplit, shrink, stratified, thinned


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(0, 90), st.integers(0, 3))
def test_a_cut_is_a_partition_that_keeps_every_class(targets: list[int], count: int, seed: int) -> None:
    labels = np.array(targets, np.int64)
    rest, cut = stratified(labels, count, seed)
    assert sorted([*rest, *cut]) == list(range(len(labels)))
    assert set(labels[rest]) == set(targets)
    assert len(cut) == min(count, len(labels) - len(set(targets)))


def test_a_cut_keeps_the_shares_of_classes_and_depends_on_the_seed() -> None:
    targets = np.repeat([0, 1, 2], [600, 300, 100])
    _, cut = stratified(targets, 100, 0)
    assert np.bincount(targets[cut]).tolist() == [60, 30, 10]
    assert np.array_equal(cut, stratified(targets, 100, 0)[1])
    assert not np.array_equal(cut, stratified(targets, 100, 1)[1])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(1, 70))
def test_thinning_meets_the_limit_and_keeps_classes_where_it_can(targets: list[int], limit: int) -> None:
    labels = np.array(targets, np.int64)
    kept = thinned(labels, limit, 0)
    classes = len(set(targets))
    assert len(kept) <= min(limit, len(labels))
    if limit >= classes:
        assert len(kept) == min(limit, len(labels)) and len(set(labels[kept])) == classes


def test_a_split_reads_any_indices_in_the_order_asked() -> None:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    split = ArraySplit(images, np.arange(10))
    read, targets = split.read(np.array([7, 2, 2]))
    assert read.ravel().tolist() == targets.tolist() == [7, 2, 2]
    assert split.resident and len(shrink(split, 3, 0)) == 3 and shrink(split, None, 0) is split


def test_a_split_refuses_arrays_of_different_length() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        ArraySplit(np.zeros((3, 2, 2, 1), np.uint8), np.zeros(2, np.int64))


def test_class_maps_are_cut_as_a_plain_sample() -> None:
    rest, cut = stratified(np.zeros((10, 4, 4), np.int64), 3, 0)
    assert len(cut) == 3 and len(rest) == 7 and not set(rest) & set(cut)
