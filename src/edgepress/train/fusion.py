"""The attention-based fusion (ABF) of ReviewKD: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepress.train.connectors import Lists, as_map, same_size
from edgepress.train.objectives.base import Pair


class Fuse(nn.Module):
    """One level: the student's map `(N, inputs, H, W)` at `width` channels, mixed with the deeper residual, both
    weighted by a map of two attentions. Returns what is compared, `(N, outputs, H, W)`, and the residual going up.
    """

    def __init__(self, inputs: int, width: int, outputs: int, deepest: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width))
        self.leave = nn.Sequential(nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.attend = None if deepest else nn.Conv2d(2 * width, 2, 1)

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (what is compared, the residual)."""
        x = self.enter(x)
        if self.attend is not None and deeper is not None:
            x = self._mixed(x, deeper, self.attend)
        return self.leave(x), x

    @staticmethod
    def _mixed(x: Tensor, deeper: Tensor, attend: nn.Conv2d) -> Tensor:
        # The convolution of both maps one on the other is the sum of two, and that of the deeper one may be done while
        # it is small: enlarging repeats pixels, and a 1x1 convolution looks at one at a time.
        width, size = x.shape[1], x.shape[2:]
        mine, theirs = attend.weight[:, :width], attend.weight[:, width:]
        asked = F.conv2d(x, mine, attend.bias) + F.interpolate(F.conv2d(deeper, theirs), size, mode="nearest")
        weights = asked.sigmoid()
        return torch.addcmul(x * weights[:, :1], F.interpolate(deeper, size, mode="nearest"), weights[:, 1:])


class Fusion(nn.Module):
    """All levels, from the deepest up; pairs are given shallow to deep. Vectors are maps of one pixel."""

    def __init__(self, pairs: Iterable[Pair], width: int) -> None:
        super().__init__()
        pairs = list(pairs)
        last = len(pairs) - 1
        self.levels = nn.ModuleList(
            Fuse(pair.ours[0], width, pair.theirs[0], deepest=number == last) for number, pair in enumerate(pairs)
        )

    def forward(self, ours: list[Tensor], theirs: list[Tensor]) -> Lists:
        """Return fused and teacher's maps, shallow to deep, pooled to the smaller size of each pair."""
        found: list[tuple[Tensor, Tensor]] = []
        deeper: Tensor | None = None
        for level, a, b in reversed(list(zip(self.levels, ours, theirs, strict=True))):
            shown, deeper = level(as_map(a), deeper)
            found.append(same_size(shown, as_map(b)))
        return [a for a, _ in found[::-1]], [b for _, b in found[::-1]]
