"""Images to inputs to outputs."""

import numpy as np
import pytest
import torch
from torch import nn

from edgepress.core.artifact import Builder, Model
from edgepress.core.errors import EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.models.build import new_model
from edgepress.models.inputs import normalize
from edgepress.models.predictor import TorchPredictor


def test_normalize_is_the_manifests_formula() -> None:
    spec = InputSpec(4, 6, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    nhwc = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    expected = ((nhwc / 255.0 - spec.mean) / spec.std).transpose(0, 3, 1, 2)
    view = torch.from_numpy(nhwc).permute(0, 3, 1, 2)
    result = normalize(view, spec)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)
    assert result.is_contiguous(memory_format=torch.channels_last), "the layout of the images is kept"
    assert normalize(view, spec, torch.bfloat16).dtype == torch.bfloat16
    floats = view.float()
    normalize(floats, spec)
    assert torch.equal(floats, view.float()), "its input is untouched"


def test_batches_change_nothing_and_modes_stay(sign, images) -> None:
    model = new_model("cifar_resnet8", sign(), {}, 0)
    model.module.train()
    model.module.bn1.eval()
    batch = images(model.signature, 7)
    whole, parts = TorchPredictor(model)(batch), TorchPredictor(model, batch=3)(batch)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert model.module.training and model.module.layer1.training and not model.module.bn1.training
    assert TorchPredictor(model)(batch[:0]).shape == (0, 5)


def test_wrong_inputs_and_outputs(sign, images) -> None:
    model = new_model("digits_cnn", sign(8, 1), {}, 0)
    for wrong in (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.float32)):
        with pytest.raises(EdgepressError, match=r"expected uint8 images of shape \(N, 8, 8, 1\), got"):
            TorchPredictor(model)(wrong)

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    pair = Model(Pair(), Builder("a:pair"), model.signature)
    with pytest.raises(EdgepressError, match="a:pair returned a tuple"):
        TorchPredictor(pair)(images(model.signature))
