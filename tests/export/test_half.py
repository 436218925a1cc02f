"""FP16 storage: half the bytes, the same network, and no surprises at the ends of FP16's range."""

import numpy as np
import onnx
import pytest
import torch

from edgepress.core.errors import EdgepressError
from edgepress.export.formats import formats
from edgepress.export.half import HALF, export_half, store_half
from edgepress.export.onnx import FILE, export_onnx
from quantize.nets import images, make, quantized


@pytest.mark.parametrize("name", ["Residual", "SqueezeExcite"])
def test_it_computes_the_same_from_fewer_bytes(name: str) -> None:
    model = make(name)
    plain, half = export_onnx(model, images(24)), export_half(model, images(24))
    assert half.precision == "w16a32" and half.provenance["format"]["name"] == "onnx-fp16"
    assert half.parity["rms_difference"] < HALF.rms_difference / 3 and half.parity["agreement"] == 100
    before, after = onnx.load_from_string(plain.files[FILE]), onnx.load_from_string(half.files[FILE])
    onnx.checker.check_model(after, full_check=True)
    saved = sum(2 * np.prod(t.dims) for t in before.graph.initializer if t.data_type == 1 and np.prod(t.dims) >= 64)
    stored = sum(np.prod(t.dims) for t in after.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16)
    assert 2 * stored == saved > 0


def test_it_is_a_format_a_recipe_can_name() -> None:
    assert formats.get("onnx-fp16") is export_half


def test_a_weight_beyond_fp16_is_refused() -> None:
    model = make("Residual")
    with torch.no_grad():
        next(model.module.parameters()).flatten()[0] = 1e30
    with pytest.raises(EdgepressError, match=r"cannot be stored in FP16.*to: onnx"):
        export_half(model, images(24))


def test_a_quantized_network_is_refused() -> None:
    with pytest.raises(EdgepressError, match=r"this one is w8a8.*to: onnx"):
        export_half(quantized("Residual"), images(24))


def test_storing_twice_changes_nothing() -> None:
    data = export_half(make("Residual"), images(24)).files[FILE]
    assert store_half(data) == data
