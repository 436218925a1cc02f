"""What is trained between two networks and thrown away afterwards: projections, embeddings, generators.

Each connector takes the features of student and teacher (two lists of maps `(N, C, H, W)` or vectors `(N, C)`) and
returns the two lists that the loss compares. Its first sizes come from a dry run.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepress.train.objectives.base import Pair

Lists = tuple[list[Tensor], list[Tensor]]


def pooled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the map `x` averaged down to `size`."""
    return x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)


def same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps pooled to the smaller height and the smaller width; vectors stay as they are."""
    if a.ndim != 4:
        return a, b
    size = (min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3]))
    return pooled(a, size), pooled(b, size)


def flat(x: Tensor) -> Tensor:
    """Return vectors `(N, C)`: maps are averaged over their pixels."""
    return x.mean((2, 3)) if x.ndim == 4 else x


def as_map(x: Tensor) -> Tensor:
    """Return vectors `(N, C)` as maps of one pixel; maps stay as they are."""
    return x[:, :, None, None] if x.ndim == 2 else x


class SameSize(nn.Module):
    """Pools every pair of maps to the smaller of the two; it has no weights."""

    def forward(self, ours: list[Tensor], theirs: list[Tensor]) -> Lists:
        """Return pairs of equal height and width."""
        return _apart(same_size(a, b) for a, b in zip(ours, theirs, strict=True))


class Projections(nn.Module):
    """Brings the student's channels to the teacher's: 1x1 convolutions for maps, linear layers for vectors.

    With `keep_equal` channels that are equal pass through; `normalized` adds batch normalization.
    """

    def __init__(self, pairs: Iterable[Pair], keep_equal: bool = False, normalized: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_projection(pair, keep_equal, normalized) for pair in pairs)

    def forward(self, ours: list[Tensor], theirs: list[Tensor]) -> Lists:
        """Return pairs of equal shape. Pooled first: it commutes with a 1x1 convolution and saves work."""
        pairs = [same_size(a, b) for a, b in zip(ours, theirs, strict=True)]
        return _apart((layer(a), b) for layer, (a, b) in zip(self.layers, pairs, strict=True))


class Gaussians(nn.Module):
    """Means (three 1x1 convolutions or linear layers) and a variance per channel for the teacher's features.

    The first list returned holds all means, then all variances, shaped to be broadcast.
    """

    def __init__(self, pairs: Iterable[Pair], initial: float) -> None:
        super().__init__()
        pairs = list(pairs)
        self.means = nn.ModuleList(_stack(pair) for pair in pairs)
        start = torch.tensor(initial - 1e-5, dtype=torch.float64).expm1().log().item()  # the inverse of softplus
        self.spreads = nn.ParameterList(nn.Parameter(torch.full((pair.theirs[0],), start)) for pair in pairs)

    def forward(self, ours: list[Tensor], theirs: list[Tensor]) -> Lists:
        """Return means and variances, and the teacher's features."""
        smaller, targets = _apart(same_size(a, b) for a, b in zip(ours, theirs, strict=True))
        means = [layer(a) for layer, a in zip(self.means, smaller, strict=True)]
        shapes = [(1, -1) + (1,) * (mean.ndim - 2) for mean in means]
        spreads = [F.softplus(s).add(1e-5).view(shape) for s, shape in zip(self.spreads, shapes, strict=True)]
        return means + spreads, targets


class Embeddings(nn.Module):
    """A linear map of both networks' vectors to `width` numbers of norm 1; maps are averaged over their pixels."""

    def __init__(self, pairs: Iterable[Pair], width: int) -> None:
        super().__init__()
        pairs = list(pairs)
        self.ours = nn.ModuleList(nn.Linear(pair.ours[0], width) for pair in pairs)
        self.theirs = nn.ModuleList(nn.Linear(pair.theirs[0], width) for pair in pairs)

    def forward(self, ours: list[Tensor], theirs: list[Tensor]) -> Lists:
        """Return the embeddings `(N, width)`."""
        return (
            [F.normalize(layer(flat(a)).float()) for layer, a in zip(self.ours, ours, strict=True)],
            [F.normalize(layer(flat(b)).float()) for layer, b in zip(self.theirs, theirs, strict=True)],
        )


class Generators(nn.Module):
    """Blanks a share of the student's pixels and generates the teacher's map from the rest, per pair."""

    def __init__(self, pairs: Iterable[Pair], masked: float) -> None:
        super().__init__()
        pairs, self.masked = list(pairs), masked
        self.aligned = Projections(pairs, keep_equal=True)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, n, 3, padding=1))
            for n in (pair.theirs[0] for pair in pairs)
        )

    def forward(self, ours: list[Tensor], theirs: list[Tensor]) -> Lists:
        """Return generated maps and the teacher's."""
        aligned, targets = self.aligned(ours, theirs)
        return [layer(self._blanked(a)) for layer, a in zip(self.layers, aligned, strict=True)], targets

    def _blanked(self, x: Tensor) -> Tensor:
        # Drawn on the CPU: that stream is part of the checkpoint.
        kept = torch.rand((len(x), 1, *x.shape[2:])) >= self.masked
        return x * kept.to(x.device)


def _projection(pair: Pair, keep_equal: bool, normalized: bool) -> nn.Module:
    inputs, outputs = pair.ours[0], pair.theirs[0]
    if keep_equal and inputs == outputs:
        return nn.Identity()
    if len(pair.ours) == 1:
        return nn.Linear(inputs, outputs)
    conv = nn.Conv2d(inputs, outputs, 1, bias=not normalized)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs)) if normalized else conv


def _stack(pair: Pair) -> nn.Module:
    inputs, outputs = pair.ours[0], pair.theirs[0]
    sizes = [(inputs, outputs), (outputs, outputs), (outputs, outputs)]
    if len(pair.ours) == 1:
        layers: list[nn.Module] = [nn.Linear(*size) for size in sizes]
    else:
        layers = [nn.Conv2d(a, b, 1, bias=False) for a, b in sizes]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def _apart(pairs: Iterable[tuple[Tensor, Tensor]]) -> Lists:
    found = list(pairs)
    return [a for a, _ in found], [b for _, b in found]
