"""Our scores of class maps, made by numpy alone, against those of torchmetrics."""

import warnings

import numpy as np
import pytest

from edgepress.tasks.base import tasks


def test_mean_iou_and_pixel_accuracy_equal_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its dependencies say while they are imported
        classification = pytest.importorskip("torchmetrics.classification")
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, 5, 12, 10)).astype(np.float32)
    targets = rng.integers(0, 5, (3, 12, 10))
    targets[rng.random(targets.shape) < 0.2] = 255
    meter = tasks.get("segmentation").meter(5)
    meter.update(outputs, targets)
    ours = meter.result()
    given = torch.from_numpy(outputs.argmax(1)), torch.from_numpy(targets)
    each = classification.MulticlassJaccardIndex(5, average="none", ignore_index=255)(*given)
    assert [ours[f"iou_{k}"] for k in range(5)] == pytest.approx((100 * each).tolist(), rel=1e-5)
    assert ours["miou"] == pytest.approx(100 * each.mean().item(), rel=1e-5)
    accuracy = classification.MulticlassAccuracy(5, average="micro", ignore_index=255)(*given)
    assert ours["pixel_accuracy"] == pytest.approx(100 * accuracy.item(), rel=1e-5)
