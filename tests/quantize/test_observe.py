import math

import pytest
import torch

from edgepress.export.fake import Scheme
from edgepress.quantize.observe import (
    Entropy,
    Extremes,
    Histogram,
    MeanSquaredError,
    MinMax,
    Percentile,
    estimators,
    symmetric_range,
    weight_range,
)

UINT8 = Scheme(8, signed=False)


def seen(values: torch.Tensor) -> Histogram:
    extremes = Extremes()
    for part in values.split(1000):
        extremes.update(part)
    histogram = Histogram(extremes.low, extremes.high)
    for part in values.split(1000):
        histogram.update(part)
    return histogram


def squared_error(values: torch.Tensor, low: float, high: float, scheme: Scheme) -> float:
    scale, zero = scheme.parameters(torch.tensor(low), torch.tensor(high))
    codes = (values / scale + zero).round().clamp(scheme.qmin, scheme.qmax)
    return float((((codes - zero) * scale - values) ** 2).sum())


@pytest.fixture
def outliers() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.cat([torch.randn(20_000, generator=generator), torch.tensor([-3.0, 40.0])])


def test_minmax_keeps_everything(outliers: torch.Tensor) -> None:
    assert MinMax().range(seen(outliers), UINT8) == (float(outliers.min()), float(outliers.max()))


def test_percentile_leaves_the_outlier_out(outliers: torch.Tensor) -> None:
    low, high = Percentile(99.9).range(seen(outliers), UINT8)
    assert -4.5 < low < -2.5 and 2.5 < high < 5


def test_mse_has_less_error_than_the_extremes(outliers: torch.Tensor) -> None:
    scheme = Scheme(4, signed=False)
    low, high = MeanSquaredError().range(seen(outliers), scheme)
    assert high < 40
    extremes = squared_error(outliers, float(outliers.min()), 40.0, scheme)
    assert squared_error(outliers, low, high, scheme) < extremes


@pytest.mark.parametrize("name", list(estimators))
def test_every_estimator_keeps_zero_as_the_end_after_relu(name: str) -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0)).relu()
    low, high = estimators.get(name)().range(seen(values), UINT8)
    assert low == 0 and 2 < high <= float(values.max())


def test_not_a_number_is_not_lost() -> None:
    extremes = Extremes()
    extremes.update(torch.tensor([1.0, float("nan")]))
    extremes.update(torch.tensor([1.0, 2.0]))
    assert math.isnan(extremes.high)


def test_weight_range_is_best_per_channel() -> None:
    scheme = Scheme(3, signed=True, axis=0)
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [10], [0.1], [0]])
    low, high = weight_range(weight, scheme)
    scales, _ = scheme.parameters(low, high)
    widest, _ = scheme.parameters(weight.amin(1), weight.amax(1))
    error = [((weight - (weight / s[:, None]).round().clamp(-3, 3) * s[:, None]) ** 2).sum(1) for s in (scales, widest)]
    assert (error[0] <= error[1]).all() and error[0][:3].sum() < error[1][:3].sum()
    assert scales[3] > 0


def test_entropy_keeps_what_is_common_and_clips_what_is_rare(outliers: torch.Tensor) -> None:
    low, high = Entropy().range(seen(outliers), UINT8)
    assert 2.5 < high < 10 and low >= float(outliers.min())
    even = torch.linspace(0, 1, 20_000)
    assert Entropy().range(seen(even), UINT8) == (0.0, pytest.approx(1.0, abs=0.01))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (-4.0, 1.0), (0.0, 2.0), (-2.0, 0.0)])
def test_a_symmetric_range_has_its_zero_point_in_the_middle_or_at_the_end(low: float, high: float) -> None:
    first, last = symmetric_range(low, high, UINT8)
    _, zero = UINT8.parameters(torch.tensor(first), torch.tensor(last))
    assert first <= low and last >= high - 1e-6 and float(zero) == (0 if low >= 0 else 128)


def test_one_range_for_all_channels_is_the_best_for_them_together() -> None:
    scheme = Scheme(4, signed=True, axis=0)
    weight = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [3], [0.1], [0]])
    low, high = weight_range(weight, scheme, per_tensor=True)
    assert low.shape == (4,) and len(set(low.tolist())) == len(set(high.tolist())) == 1
    best, _ = scheme.parameters(low[:1], high[:1])
    widest, _ = scheme.parameters(weight.min()[None], weight.max()[None])
    error = [((weight - (weight / s).round().clamp(-7, 7) * s) ** 2).sum() for s in (best, widest)]
    assert error[0] <= error[1]
