"""Range estimators: from the values that pass a place in the network to the range its integers should cover."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgepress.core.config import STRICT
from edgepress.core.registry import Registry
from edgepress.export.fake import Scheme

BINS = 2048
SHARES = 80
"""Shares of the extremes that the search for the range of weights tries."""

Range = tuple[float, float]


class Extremes:
    """Lowest and highest value seen; the first look at the calibration images."""

    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")

    def update(self, x: Tensor) -> None:
        """Take in one batch of values."""
        low, high = torch.aminmax(x.detach())
        # NaN compares false with everything: min() would drop it silently.
        self.low = min(self.low, float(low)) if not low.isnan() else float("nan")
        self.high = max(self.high, float(high)) if not high.isnan() else float("nan")


class Histogram:
    """How often values fall into each of `BINS` equal bins between known extremes; the second look."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.counts = torch.zeros(BINS, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Take in one batch of values."""
        if self.high > self.low:
            self.counts += torch.histc(x.detach().float(), BINS, self.low, self.high).double().cpu()

    @property
    def centers(self) -> Tensor:
        """Middle of each bin, float64 `(BINS,)`."""
        width = (self.high - self.low) / BINS
        return self.low + (torch.arange(BINS, dtype=torch.float64) + 0.5) * width


@dataclass(frozen=True)
class Estimator(ABC):
    """How a range is chosen from a histogram."""

    __pydantic_config__ = STRICT

    looks: ClassVar[int] = 2
    """1 where the extremes are all it needs: calibration is then one pass instead of two."""

    @abstractmethod
    def range(self, histogram: Histogram, scheme: Scheme) -> Range:
        """Return the lowest and highest value that integers of `scheme` should cover."""


estimators: Registry[type[Estimator]] = Registry("range estimator", ("edgepress.quantize.observe",))


@estimators.register("minmax")
@dataclass(frozen=True)
class MinMax(Estimator):
    """Everything that was seen; nothing is clipped, one outlier makes all steps coarse."""

    looks: ClassVar[int] = 1

    def range(self, histogram: Histogram, scheme: Scheme) -> Range:
        """Return the extremes."""
        return histogram.low, histogram.high


@estimators.register("percentile")
@dataclass(frozen=True)
class Percentile(Estimator):
    """All but the outermost values; `percent` of them stay inside (Wu et al. 2020, "Integer quantization")."""

    percent: float = 99.99

    def range(self, histogram: Histogram, scheme: Scheme) -> Range:
        """Return the range between the two percentiles."""
        share = histogram.counts.cumsum(0) / histogram.counts.sum().clamp(min=1)
        outside = (1 - self.percent / 100) / 2
        centers = histogram.centers
        first = int(torch.searchsorted(share, outside).clamp(max=BINS - 1))
        last = int(torch.searchsorted(share, 1 - outside).clamp(max=BINS - 1))
        # A one-sided range (after ReLU) keeps its exact end, so that zero stays the lowest code.
        low = histogram.low if histogram.low >= 0 else float(centers[first])
        return low, histogram.high if histogram.high <= 0 else float(centers[last])


@estimators.register("mse")
@dataclass(frozen=True)
class MeanSquaredError(Estimator):
    """The range with the least squared error, clipping and rounding together (Nagel et al. 2021, section 3.1).

    Each end is tried at `steps` shares of what was seen.
    """

    steps: int = 24
    smallest: float = 0.3

    def range(self, histogram: Histogram, scheme: Scheme) -> Range:
        """Return the best of the ranges tried."""
        shares = torch.linspace(self.smallest, 1.0, self.steps, dtype=torch.float64)
        lows = shares * histogram.low if histogram.low < 0 else torch.zeros(1, dtype=torch.float64)
        highs = shares * histogram.high if histogram.high > 0 else torch.zeros(1, dtype=torch.float64)
        low, high = (grid.flatten() for grid in torch.meshgrid(lows, highs, indexing="ij"))
        scale, zero_point = (t.double().unsqueeze(1) for t in scheme.parameters(low, high))
        x = histogram.centers
        codes = (x / scale + zero_point).round().clamp(scheme.qmin, scheme.qmax)
        error = (((codes - zero_point) * scale - x) ** 2 * histogram.counts).sum(1)
        best = int(error.argmin())
        return float(low[best]), float(high[best])


@estimators.register("entropy")
@dataclass(frozen=True)
class Entropy(Estimator):
    """The clipping that loses least information, by Kullback-Leibler divergence (Migacz 2017, "8-bit inference with
    TensorRT").

    What was seen below a threshold, its last bin holding what is clipped, is compared with the same at the resolution
    of the codes. One threshold serves both signs, halving the codes. The divergence looks at shares of values, not at
    how far off they end, so that rare large ones are clipped too readily.
    """

    stride: int = 8

    def range(self, histogram: Histogram, scheme: Scheme) -> Range:
        """Return the range up to the best threshold."""
        both = histogram.low < 0 < histogram.high
        magnitude = max(-histogram.low, histogram.high)
        bins = torch.zeros(BINS, dtype=torch.float64)
        places = (histogram.centers.abs() / magnitude * BINS).long().clamp(max=BINS - 1)
        bins.index_add_(0, places, histogram.counts)
        # Exact zeros (ReLU, padding) have a code of their own at any threshold; counted, they outweigh all else.
        bins[0] = bins[1]
        levels = (scheme.qmax - scheme.qmin + 1) // (2 if both else 1)
        ends = list(range(levels, BINS + 1, self.stride))
        if ends[-1] != BINS:
            ends.append(BINS)
        best = min(ends, key=lambda end: _divergence(bins, end, levels))
        threshold = best / BINS * magnitude
        return max(histogram.low, -threshold), min(histogram.high, threshold)


def _divergence(bins: Tensor, end: int, levels: int) -> float:
    """Return the divergence of the first `end` bins, clipped there, from what `levels` codes keep of them."""
    inside = bins[:end]
    p = inside.clone()
    p[-1] += bins[end:].sum()
    group = torch.arange(end) * levels // end
    filled = (inside > 0).double()
    sums = torch.zeros(levels, dtype=torch.float64).index_add_(0, group, inside)
    counts = torch.zeros(levels, dtype=torch.float64).index_add_(0, group, filled)
    q = (sums / counts.clamp(min=1))[group] * filled
    # A bin that holds only what was clipped has no share in q: a tiny one keeps the divergence finite and large.
    p, q = p / p.sum().clamp(min=1), (q / q.sum().clamp(min=1)).clamp(min=1e-9)
    return float(torch.where(p > 0, p * (p / q).log(), 0.0).sum())


def symmetric_range(low: float, high: float, scheme: Scheme) -> Range:
    """Return the smallest range around `[low, high]` whose zero point lies in the middle of the codes, or, where no
    value is negative, at their end."""
    if low >= 0:
        return 0.0, high
    middle = (scheme.qmax - scheme.qmin + 1) // 2
    step = max(-low / middle, high / (scheme.qmax - scheme.qmin - middle))
    return -step * middle, step * (scheme.qmax - scheme.qmin - middle)


def weight_range(
    weight: Tensor, scheme: Scheme, steps: int = SHARES, smallest: float = 0.2, per_tensor: bool = False
) -> tuple[Tensor, Tensor]:
    """Return low and high, one each per channel of `weight` along `scheme.axis`, with the least squared error.

    `steps` shares of each channel's extremes are tried, all channels at once; `steps` 1 keeps the extremes. With
    `per_tensor` all channels get the range that is best for them together.
    """
    assert scheme.axis is not None
    channels = weight.shape[scheme.axis]
    flat = weight.detach().double().transpose(0, scheme.axis).flatten(1)
    if per_tensor:
        low, high = _least_error(flat.reshape(1, -1), scheme, steps, smallest)
        return low.expand(channels), high.expand(channels)
    return _least_error(flat, scheme, steps, smallest)


def _least_error(flat: Tensor, scheme: Scheme, steps: int, smallest: float) -> tuple[Tensor, Tensor]:
    low, high = flat.amin(1), flat.amax(1)
    best = torch.full_like(low, float("inf"))
    chosen = torch.stack((low, high))
    extremes = chosen.clone()
    for share in torch.linspace(1.0, smallest, steps, dtype=torch.float64).tolist():
        scale, zero_point = (t.double().unsqueeze(1) for t in scheme.parameters(low * share, high * share))
        codes = (flat / scale + zero_point).round().clamp(scheme.qmin, scheme.qmax)
        error = (((codes - zero_point) * scale - flat) ** 2).sum(1)
        better = error < best
        best = torch.where(better, error, best)
        chosen = torch.where(better, extremes * share, chosen)
    return chosen[0], chosen[1]
