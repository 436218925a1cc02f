"""Zoom, crop and color of batches, joint for images and class maps, as functions of (seed, view, image)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepress.tasks.cross_entropy import VOID
from edgepress.train.config import Augment
from edgepress.train.seeds import generator

# These keep the streams of zoom and color apart from those that shift, mirror and shuffle.
_WARP, _TINT = 1_000_081, 1_000_099


class Warp:
    """A zoom and the place of a window for every image of a split in one view.

    The zoom is drawn evenly on a logarithmic scale, as many images larger as smaller. The window lies anywhere in the
    zoomed image, or, where it is larger, the image anywhere in the window. Images are interpolated (bilinear), class
    maps take the nearest pixel; beyond the image, images are mirrored and class maps void.
    """

    def __init__(self, augment: Augment, count: int, height: int, width: int, seed: int, view: int) -> None:
        self.size, self.window = (height, width), augment.crop or (height, width)
        rng = generator(seed, view, _WARP)
        low, high = torch.tensor(augment.scale, dtype=torch.float64).log()
        self._zoom = (low + (high - low) * torch.rand(count, generator=rng, dtype=torch.float64)).exp()
        self._start = torch.stack(
            [self._places(side, window, augment.pad, rng) for side, window in zip(self.size, self.window, strict=True)]
        )

    def _places(self, side: int, window: int, pad: int, rng: torch.Generator) -> Tensor:
        """Return where the windows begin, in whole pixels of the original: at zoom 1 every pixel stays what it is."""
        seen, beyond = window / self._zoom, pad / self._zoom
        room = side - seen
        low, high = torch.minimum(room, room * 0) - beyond, torch.maximum(room, room * 0) + beyond
        return (low + (high - low) * torch.rand(len(seen), generator=rng, dtype=torch.float64)).round()

    def __call__(self, source: Tensor, rows: Tensor, indices: Tensor, mirror: Tensor) -> Tensor:
        """Return `(n, *window, ...)`: rows of uint8 images `(N, H, W, C)` or of class maps `(N, H, W)`."""
        y, x = (self._centers(axis, indices) for axis in (0, 1))
        x = torch.where(mirror[indices, None], x.flip(1), x)
        chosen = source.index_select(0, rows.to(source.device))
        return self._nearest(chosen, y, x) if source.ndim == 3 else self._between(chosen, y, x)

    def _centers(self, axis: int, indices: Tensor) -> Tensor:
        """Return the centers of the window's pixels in the original image, `(n, window)`."""
        steps = torch.arange(self.window[axis], dtype=torch.float64) + 0.5
        return self._start[axis, indices, None] + steps / self._zoom[indices, None]

    def _nearest(self, maps: Tensor, y: Tensor, x: Tensor) -> Tensor:
        height, width = self.size
        inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
        rows, columns = y.floor().long().clamp(0, height - 1), x.floor().long().clamp(0, width - 1)
        flat = (rows[:, :, None] * width + columns[:, None, :]).flatten(1).to(maps.device)
        found = maps.flatten(1).gather(1, flat).view(len(maps), *self.window)
        return torch.where(inside.to(maps.device), found, VOID)

    def _between(self, images: Tensor, y: Tensor, x: Tensor) -> Tensor:
        height, width = self.size
        across, down = (2 * x / width - 1).float(), (2 * y / height - 1).float()
        grid = torch.stack(
            [across[:, None, :].expand(-1, self.window[0], -1), down[:, :, None].expand(-1, -1, self.window[1])], 3
        ).to(images.device)
        found = F.grid_sample(
            images.permute(0, 3, 1, 2).float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
        return found.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


class Tint:
    """A change of brightness, contrast and saturation for every image of a split in one view."""

    def __init__(self, color: float, count: int, seed: int, view: int) -> None:
        draws = torch.rand(3, count, generator=generator(seed, view, _TINT))
        self._factors = 1 + color * (2 * draws - 1)

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return uint8 images `(n, H, W, C)`, each changed by its own factors; gray ones have no saturation."""
        light, contrast, saturation = self._factors[:, indices].view(3, -1, 1, 1, 1).to(images.device)
        values = images.float() * light
        gray = values.mean(3, keepdim=True)
        values = gray + (values - gray) * saturation
        middle = gray.mean((1, 2), keepdim=True)
        return (middle + (values - middle) * contrast).round().clamp(0, 255).to(torch.uint8)
