"""Batched augmentation of uint8 images, and of their class maps, as a pure function of (seed, view, image).

Because a view is a function and not a stream of random numbers, an interrupted epoch goes on exactly where it stopped,
and a teacher's outputs for a fixed set of views can be computed once and kept.
"""

import torch
from torch import Tensor

from edgepress.train.config import Augment
from edgepress.train.seeds import generator as generator
from edgepress.train.warp import Tint, Warp


class View:
    """The augmentation parameters of every image of a split in one view: `count` images of `height` x `width`."""

    def __init__(self, augment: Augment, count: int, height: int, width: int, seed: int, view: int) -> None:
        pad = 0 if augment.warps else min(augment.pad, height - 1, width - 1)  # reflection reaches no further
        self.warp = Warp(augment, count, height, width, seed, view) if augment.warps else None
        self.tint = Tint(augment.color, count, seed, view) if augment.color else None
        height, width = augment.crop or (height, width)
        self.augment, self.pad, self.height, self.width = augment, pad, height, width
        rng = generator(seed, view)
        self._top = torch.randint(0, 2 * pad + 1, (count,), generator=rng)
        self._left = torch.randint(0, 2 * pad + 1, (count,), generator=rng)
        side = torch.randint(0, 2, (count,), generator=generator(seed)) if augment.flip else torch.zeros(count)
        self._mirror = (side + view) % 2 == 1 if augment.flip else side.bool()
        self._hole = torch.randint(0, height * width, (count,), generator=rng)

    def cut(self, padded: Tensor, rows: Tensor, indices: Tensor) -> Tensor:
        """Return `(n, height, width, ...)`: images `rows` of `padded`, cropped and mirrored as `indices` say.

        `padded` is `(N, height + 2 pad, width + 2 pad, ...)`; `rows` selects from it, `indices` are the images' places
        in the split. Works on images and on class maps alike.
        """
        if self.warp is not None:
            return self.warp(padded, rows, indices, self._mirror)
        device = padded.device
        _, tall, wide = padded.shape[:3]
        y = self._top[indices, None] + torch.arange(self.height)
        x = torch.arange(self.width).expand(len(indices), -1)
        x = torch.where(self._mirror[indices, None], self.width - 1 - x, x) + self._left[indices, None]
        flat = (rows[:, None].cpu() * tall + y)[:, :, None] * wide + x[:, None, :]
        picked = padded.flatten(0, 2).index_select(0, flat.flatten().to(device))
        return picked.view(len(indices), self.height, self.width, *padded.shape[3:])

    def blank(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return images `(n, height, width, channels)` in other colors, and with a gray square of `cutout` pixels in
        each, where that is asked for."""
        images = self.tint(images, indices) if self.tint is not None else images
        size = self.augment.cutout
        if not size:
            return images
        hole = self._hole[indices]
        rows, columns = torch.arange(self.height), torch.arange(self.width)
        tall = (rows - (hole // self.width)[:, None] + size // 2) % (self.height + size) < size
        wide = (columns - (hole % self.width)[:, None] + size // 2) % (self.width + size) < size
        mask = (tall[:, :, None] & wide[:, None, :])[..., None].to(images.device)
        return images.masked_fill(mask, 128)


def reflect(images: Tensor, pad: int) -> Tensor:
    """Return uint8 or int64 `(N, H, W, ...)` padded by reflection on all four sides."""
    if not pad:
        return images
    height, width = images.shape[1:3]
    rows = _mirror_index(height, pad).to(images.device)
    columns = _mirror_index(width, pad).to(images.device)
    return images.index_select(1, rows).index_select(2, columns)


def _mirror_index(size: int, pad: int) -> Tensor:
    places = torch.arange(-pad, size + pad).abs()
    return torch.where(places >= size, 2 * (size - 1) - places, places)
