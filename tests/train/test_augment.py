import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepress.train.augment import View, reflect
from edgepress.train.config import PLAIN, Augment


def images(count: int = 6, height: int = 5, width: int = 7) -> torch.Tensor:
    return torch.arange(count * height * width * 3).remainder(251).to(torch.uint8).view(count, height, width, 3)


def shown(augment: Augment, view: int, batch: torch.Tensor, seed: int = 0) -> torch.Tensor:
    everyone = torch.arange(len(batch))
    params = View(augment, len(batch), *batch.shape[1:3], seed, view)
    return params.blank(params.cut(reflect(batch, params.pad), everyone, everyone), everyone)


def test_plain_changes_nothing():
    assert torch.equal(shown(PLAIN, 3, images()), images())


def test_flip_alternates_between_views():
    batch, flip = images(), Augment(pad=0)
    first, second, third = (shown(flip, view, batch) for view in range(3))
    assert torch.equal(first.flip(2), second)
    assert torch.equal(first, third)
    mirrored = (first != batch).flatten(1).any(1)
    assert 0 < mirrored.sum() < len(batch), "in one view some images are mirrored and some are not"


@given(height=st.integers(3, 9), width=st.integers(3, 9), pad=st.integers(0, 12), view=st.integers(0, 50))
def test_a_crop_is_a_window_of_the_reflected_image(height: int, width: int, pad: int, view: int):
    batch = images(2, height, width)
    params = View(Augment(flip=False, pad=pad), 2, height, width, 1, view)
    padded = reflect(batch, params.pad)
    everyone = torch.arange(2)
    for image, source in zip(params.cut(padded, everyone, everyone), padded, strict=True):
        windows = source.unfold(0, height, 1).unfold(1, width, 1).permute(0, 1, 3, 4, 2).flatten(0, 1)
        assert (windows == image).flatten(1).all(1).any()


def test_reflection_repeats_no_edge():
    row = torch.tensor([[[[1], [2], [3]]]], dtype=torch.uint8).expand(1, 3, 3, 1)
    assert reflect(row, 2)[0, 0, :, 0].tolist() == [3, 2, 1, 2, 3, 2, 1]


def test_masks_move_with_their_images():
    batch = images(4, 6, 6)
    params = View(Augment(pad=2), 4, 6, 6, 5, 9)
    everyone = torch.arange(4)
    classes = batch[..., 0].long()
    moved = params.cut(reflect(classes, 2), everyone, everyone)
    assert torch.equal(moved, params.cut(reflect(batch, 2), everyone, everyone)[..., 0].long())


def test_cutout_blanks_at_most_its_square():
    batch = torch.zeros(50, 8, 8, 3, dtype=torch.uint8)
    gray = (shown(Augment(flip=False, pad=0, cutout=4), 0, batch) == 128).all(-1)
    sizes = gray.flatten(1).sum(1)
    assert sizes.max() == 16
    assert sizes.min() >= 4, "a square that leaves the image still covers a corner of it"
    for mask in gray:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert mask.sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def test_a_view_is_a_function_of_seed_view_and_image():
    batch, augment = images(20, 8, 8), Augment(pad=3, cutout=2)
    assert torch.equal(shown(augment, 4, batch, seed=7), shown(augment, 4, batch, seed=7))
    assert not torch.equal(shown(augment, 4, batch, seed=7), shown(augment, 5, batch, seed=7))
    assert not torch.equal(shown(augment, 4, batch, seed=7), shown(augment, 4, batch, seed=8))


def test_negative_sizes_are_refused():
    with pytest.raises(ValueError, match="negative"):
        Augment(pad=-1)
