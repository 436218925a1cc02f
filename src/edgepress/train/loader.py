"""Batches of augmented uint8 images: from memory where the split fits there, else decoded ahead of use."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgepress.core.inputs import InputSpec
from edgepress.core.ranks import ALONE, Ranks
from edgepress.data.base import Split
from edgepress.data.prefetch import prefetch
from edgepress.train.augment import View, generator, reflect
from edgepress.train.config import Augment

if TYPE_CHECKING:
    from edgepress.train.features import Taps

# These keep the streams that shuffle and blend apart from the streams that augment.
_ORDER, _BLEND = 1_000_003, 1_000_033


@dataclass(frozen=True)
class Blend:
    """A mixup of a batch with itself: image `i` is `weight * i + (1 - weight) * partners[i]`.

    `others` are the images `partners` where they lie in the shares of other processes too.
    """

    partners: Tensor
    weight: float
    others: Tensor | None = None

    def images(self, images: Tensor) -> Tensor:
        """Return the blended float images."""
        others = images[self.partners] if self.others is None else self.others.float()
        return torch.lerp(others, images, self.weight)


@dataclass
class Batch:
    """`images` uint8 `(n, C, H, W)` in channels-last memory, `targets` int64, `indices` their places in the split.

    `teacher` holds the teacher's outputs for exactly these images, where there is a teacher, `taps` the features of
    both networks, where they are compared. `step` numbers the batches of a training, `done` is the share of it that
    ends with this one; `blend` is the mixup asked for.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    view: int
    teacher: Tensor | None = None
    taps: "Taps | None" = None
    blend: Blend | None = None
    step: int = 0
    done: float = 1.0

    @property
    def shown(self) -> Tensor:
        """The images as the networks see them, before normalization: blended (then in floating point), if at all."""
        return self.images if self.blend is None else self.blend.images(self.images.float())

    def gathered(self, ranks: Ranks, total: int) -> "Batch":
        """Return the whole batch of `total` images, of which this is one process's share. Its images stay behind: no
        loss asks for them."""
        if ranks.count == 1:
            return self
        if self.taps is not None:
            for tap in (self.taps.student, self.taps.teacher):
                tap.values = {path: ranks.gather(value, total) for path, value in tap.values.items()}
        teacher = None if self.teacher is None else ranks.gather(self.teacher, total)
        targets, indices = ranks.gather(self.targets, total), ranks.gather(self.indices, total)
        return replace(self, targets=targets, indices=indices, teacher=teacher)


class Loader:
    """Draws epochs from a split. Every epoch is a pure function of (seed, epoch), so it can be entered at any step.

    `views` is the number of distinct augmentations an image is seen in: 0 means a new one every epoch. A fixed set does
    not depend on `seed`, so that runs of other seeds share what was computed from it. `batch` is that of all processes
    together; each draws its share of every one, so the order of the images does not depend on their number.
    """

    def __init__(
        self,
        split: Split,
        spec: InputSpec,
        augment: Augment,
        batch: int,
        seed: int,
        device: torch.device,
        views: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        self.split, self.spec, self.augment, self.views = split, spec, augment, views
        self.batch, self.seed, self.device, self.ranks = min(batch, len(split)), seed, device, ranks
        self._resident: tuple[Tensor, Tensor] | None = None
        self._view: tuple[int, View] | None = None

    def __len__(self) -> int:
        """Steps per epoch; what does not fill a batch waits for another epoch's order."""
        return len(self.split) // self.batch

    def view_of(self, epoch: int) -> int:
        """Return the view that `epoch` shows."""
        return (epoch + self.seed) % self.views if self.views else epoch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the shuffled batches of `epoch` from step `start` on: of each what this process has to do."""
        order = torch.randperm(len(self.split), generator=generator(self.seed, epoch, _ORDER))
        parts = order[: len(self) * self.batch].view(len(self), self.batch)[start:]
        yield from self._batches([self.ranks.share(part) for part in parts], self.view_of(epoch))

    def in_order(self, view: int, batch: int) -> Iterator[Batch]:
        """Yield the whole split once, unshuffled, as `view` shows it."""
        yield from self._batches(list(torch.arange(len(self.split)).split(batch)), view)

    def blend(self, count: int, epoch: int, step: int) -> Blend | None:
        """Return the mixup of this step's batch of `count` images, where mixup is asked for."""
        if not self.augment.mixup:
            return None
        rng = generator(self.seed, epoch, step, _BLEND)
        partners = torch.randperm(count, generator=rng)
        # numpy draws the weight, because torch's Beta distribution takes no generator.
        draw = np.random.default_rng(int(torch.randint(2**31, (), generator=rng)))
        return Blend(partners, float(draw.beta(self.augment.mixup, self.augment.mixup)))

    def _batches(self, parts: list[Tensor], view: int) -> Iterator[Batch]:
        shown = self._params(view)
        if self.split.resident:
            yield from (self._from_memory(part, shown, view) for part in parts)
        else:
            yield from prefetch((self._from_disk(part, shown, view) for part in parts), depth=4)

    def _params(self, view: int) -> View:
        if self._view is None or self._view[0] != view:
            seed = 0 if self.views else self.seed
            params = View(self.augment, len(self.split), self.spec.height, self.spec.width, seed, view)
            self._view = view, params
        return self._view[1]

    def _from_memory(self, indices: Tensor, shown: View, view: int) -> Batch:
        if self._resident is None:
            images, targets = self.split.read(torch.arange(len(self.split)).numpy())
            images = reflect(torch.from_numpy(images).to(self.device), shown.pad)
            dense = torch.from_numpy(targets)
            self._resident = images, reflect(dense, shown.pad).to(self.device) if dense.ndim > 1 else dense
        images, targets = self._resident
        return self._finish(images, targets, indices, indices, shown, view)

    def _from_disk(self, indices: Tensor, shown: View, view: int) -> Batch:
        raw, found = self.split.read(indices.numpy())
        images, targets = reflect(torch.from_numpy(raw), shown.pad), torch.from_numpy(found)
        if targets.ndim > 1:
            targets = reflect(targets, shown.pad)
        return self._finish(images, targets, torch.arange(len(indices)), indices, shown, view)

    def _finish(self, images: Tensor, targets: Tensor, rows: Tensor, indices: Tensor, shown: View, view: int) -> Batch:
        cut = shown.blank(shown.cut(images, rows, indices), indices)
        chosen = shown.cut(targets, rows, indices) if targets.ndim > 1 else targets[rows]
        return Batch(cut.permute(0, 3, 1, 2).to(self.device), chosen.to(self.device), indices, view)
