"""Zoom, crop and color: image and class map stay together, void is where no image is, views are functions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit
from edgepress.train.augment import View
from edgepress.train.config import Augment
from edgepress.train.loader import Loader
from edgepress.train.warp import Tint

HEIGHT, WIDTH, VOID = 12, 18, 255


def scenes(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps of two classes in large cells, and images whose gray is 40 times the class: no mixture of two pixels has
    the gray of a class."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 2, (count, HEIGHT // 6, WIDTH // 6))
    maps = np.kron(cells, np.ones((1, 6, 6), np.int64)).astype(np.int64)
    return torch.from_numpy(np.repeat((40 * maps)[..., None], 3, 3).astype(np.uint8)), torch.from_numpy(maps)


def shown(augment: Augment, seed: int = 0, view: int = 0, rows: torch.Tensor | None = None) -> tuple:
    images, maps = scenes()
    params = View(augment, len(images), HEIGHT, WIDTH, seed, view)
    rows = torch.arange(len(images)) if rows is None else rows
    return params.cut(images, rows, rows), params.cut(maps, rows, rows)


@settings(max_examples=25)
@given(st.floats(0.3, 1.0), st.floats(1.0, 3.0), st.integers(4, 20), st.integers(4, 24), st.integers(0, 5))
def test_class_maps_follow_their_images(low: float, high: float, tall: int, wide: int, pad: int) -> None:
    images, maps = shown(Augment(pad=pad, scale=(low, high), crop=(tall, wide)), view=3)
    assert images.shape == (6, tall, wide, 3) and images.dtype == torch.uint8
    assert maps.shape == (6, tall, wide) and maps.dtype == torch.int64
    away = (maps != VOID) & ((images[..., 0].long() - 40 * maps).abs() > 0)
    # Where classes meet, pixels are mixed; everywhere else image and map say the same.
    mixed = torch.nn.functional.max_pool2d((images[..., 0].long() % 40 != 0).float()[:, None], 3, 1, 1)[:, 0] > 0
    around = torch.nn.functional.pad(maps.float()[:, None], [1] * 4, mode="replicate")
    spread = torch.nn.functional.max_pool2d(around, 3, 1) + torch.nn.functional.max_pool2d(-around, 3, 1)
    assert not (away & ~mixed & (spread[:, 0] == 0)).any()


def test_a_crop_alone_copies_pixels() -> None:
    images, maps = shown(Augment(flip=False, pad=0, crop=(6, 8)))
    whole, truth = scenes()
    for image, found, original, true in zip(images, maps, whole, truth, strict=True):
        places = [
            (y, x)
            for y in range(HEIGHT - 5)
            for x in range(WIDTH - 7)
            if torch.equal(original[y : y + 6, x : x + 8], image) and torch.equal(true[y : y + 6, x : x + 8], found)
        ]
        assert places, "a window of the original, pixel by pixel"


def test_beyond_the_image_is_void() -> None:
    _, maps = shown(Augment(flip=False, pad=0, scale=(0.5, 0.5)))
    share = (maps == VOID).float().mean((1, 2))
    assert share.tolist() == pytest.approx([0.75] * 6, abs=0.03)
    _, padded = shown(Augment(flip=False, pad=6, crop=(HEIGHT, WIDTH)))
    assert 0 < (padded == VOID).float().mean() < 0.6


def test_views_are_functions_of_seed_view_and_image() -> None:
    augment = Augment(scale=(0.6, 1.8), crop=(8, 10), color=0.3)
    once, again = shown(augment, 1, 2), shown(augment, 1, 2)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    alone = shown(augment, 1, 2, torch.tensor([4, 1]))
    assert torch.equal(alone[0][0], once[0][4]) and torch.equal(alone[1][1], once[1][1])
    assert not torch.equal(shown(augment, 1, 3)[1], once[1]) and not torch.equal(shown(augment, 2, 2)[1], once[1])


def test_the_flip_alternates_with_the_view() -> None:
    plain = Augment(flip=True, pad=0, scale=(1.0, 1.0001))
    first, second = shown(plain, 0, 0)[1], shown(plain, 0, 1)[1]
    mirrored = [torch.equal(a, b.flip(1)) for a, b in zip(first, second, strict=True)]
    assert all(mirrored)


def test_color_changes_images_by_no_more_than_asked() -> None:
    gray = torch.full((4, 5, 5, 3), 100, dtype=torch.uint8)
    found = Tint(0.2, 4, 0, 0)(gray, torch.arange(4)).float()
    assert found.std((1, 2, 3)).max() == 0 and found.min() >= 80 and found.max() <= 120
    assert len({value.item() for value in found[:, 0, 0, 0]}) > 1
    noise = torch.randint(0, 256, (4, 5, 5, 3), dtype=torch.uint8)
    assert torch.equal(Tint(0.0, 4, 0, 0)(noise, torch.arange(4)), noise)


def test_the_loader_resumes_within_an_epoch() -> None:
    images, maps = scenes(12)
    split, spec = ArraySplit(images.numpy(), maps.numpy()), InputSpec(HEIGHT, WIDTH)
    augment = Augment(scale=(0.7, 1.5), crop=(8, 8), color=0.2, cutout=3)

    def epoch(start: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        loader = Loader(split, spec, augment, 3, 7, torch.device("cpu"))
        return [(b.images, b.targets) for b in loader.epoch(2, start)]

    for (a, b), (c, d) in zip(epoch(0)[2:], epoch(2), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"scale": [2.0, 0.5]}, "smallest first"),
        ({"crop": [0, 8]}, r"\(height, width\)"),
        ({"color": 1.5}, "relative change"),
    ],
)
def test_fields_that_make_no_sense(fields: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(Augment, fields)


def test_kept_answers_of_older_versions_stay_valid() -> None:
    assert Augment().facts() == {"flip": True, "pad": 4, "cutout": 0, "mixup": 0.0}
    assert Augment(color=0.1).facts()["color"] == 0.1
