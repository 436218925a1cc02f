import numpy as np
import torch

from edgepress.data.arrays import ArraySplit
from edgepress.train.config import PLAIN, Augment
from edgepress.train.loader import Loader
from train.helpers import SPEC, stripes

CPU = torch.device("cpu")


class OnDisk:
    """The same split, decoded on demand."""

    resident = False

    def __init__(self, split: ArraySplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.split.read(indices)


def test_an_epoch_shows_every_image_once():
    loader = Loader(stripes(64, 0), SPEC, PLAIN, 16, 0, CPU)
    seen = torch.cat([batch.indices for batch in loader.epoch(0)])
    assert sorted(seen.tolist()) == list(range(64))
    assert not torch.equal(seen, torch.cat([batch.indices for batch in loader.epoch(1)]))


def test_an_epoch_can_be_entered_at_any_step():
    loader = Loader(stripes(64, 0), SPEC, Augment(), 16, 3, CPU)
    whole, rest = list(loader.epoch(2)), list(loader.epoch(2, start=2))
    assert len(whole) == 4 and len(rest) == 2
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)


def test_images_and_targets_stay_together():
    split = stripes(32, 0)
    for batch in Loader(split, SPEC, PLAIN, 8, 0, CPU).epoch(0):
        images, targets = split.read(batch.indices.numpy())
        assert torch.equal(batch.targets, torch.from_numpy(targets))
        assert torch.equal(batch.images.permute(0, 2, 3, 1), torch.from_numpy(images))
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_a_streamed_split_gives_the_same_batches():
    resident = Loader(stripes(32, 0), SPEC, Augment(cutout=2), 8, 1, CPU)
    streamed = Loader(OnDisk(stripes(32, 0)), SPEC, Augment(cutout=2), 8, 1, CPU)
    for a, b in zip(resident.epoch(3), streamed.epoch(3), strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)


def test_a_fixed_set_of_views_does_not_depend_on_the_seed():
    def images(seed: int, view: int) -> torch.Tensor:
        loader = Loader(stripes(32, 0), SPEC, Augment(), 8, seed, CPU, views=4)
        return torch.cat([batch.images for batch in loader.in_order(view, 10)])

    assert torch.equal(images(0, 2), images(9, 2))
    assert not torch.equal(images(0, 2), images(0, 3))
    loader = Loader(stripes(32, 0), SPEC, Augment(), 8, 1, CPU, views=4)
    assert [loader.view_of(epoch) for epoch in range(5)] == [1, 2, 3, 0, 1]


def test_a_split_smaller_than_the_batch_is_one_step():
    assert len(Loader(stripes(5, 0), SPEC, PLAIN, 128, 0, CPU)) == 1
