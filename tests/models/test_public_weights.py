"""The public CIFAR-10 checkpoints load strictly and reach their published accuracy."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec
from edgepress.models.build import new_model
from edgepress.models.predictor import TorchPredictor
from edgepress.models.weights import load_weights

DATA = Path(os.environ.get("EDGEPRESS_DATA", ""))
pytestmark = pytest.mark.skipif("EDGEPRESS_DATA" not in os.environ, reason="EDGEPRESS_DATA is not set")
SPEC = InputSpec(32, 32, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def accuracy(depth: int, count: int) -> float:
    import pyarrow.parquet
    from PIL import Image

    model = new_model(f"cifar_resnet{depth}", Signature("classification", SPEC, tuple("0123456789")), {}, 0)
    load_weights(model.module, next((DATA / "weights" / "resnet_cifar10").glob(f"resnet{depth}-*.th")))
    table = pyarrow.parquet.read_table(DATA / "cifar10" / "test.parquet").slice(0, count)
    pixels = [np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB")) for image in table["img"].to_pylist()]
    right = TorchPredictor(model)(np.stack(pixels)).argmax(1) == np.array(table["label"])
    return 100 * float(right.mean())


@pytest.mark.parametrize("depth", [20, 56])
def test_on_a_few_images(depth) -> None:
    assert accuracy(depth, 100) > 85


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("depth", "top1"), [(20, 91.73), (32, 92.63), (44, 93.10), (56, 93.39)])
def test_on_the_whole_test_split(depth, top1) -> None:
    assert accuracy(depth, 10_000) == pytest.approx(top1, abs=0.005)
