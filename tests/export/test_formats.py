"""Every format of another engine: the file computes what the network computes, in floats and with our integers."""

import dataclasses
import importlib

import numpy as np
import onnx
import pytest
import torch

from edgepress.core.artifact import Signature
from edgepress.core.errors import BundleError, EdgepressError, ParityError
from edgepress.core.inputs import InputSpec
from edgepress.export.convert import convert
from edgepress.export.decomposed import portable
from edgepress.export.formats import formats
from edgepress.export.onnx import export_onnx, to_onnx
from edgepress.export.tensorrt import refuse_zero_points
from edgepress.models.build import new_model
from edgepress.models.predictor import TorchPredictor
from edgepress.quantize.ptq import quantize
from edgepress.runtime.engine import engines
from edgepress.runtime.hardware import this_machine
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import to_input
from quantize.nets import images, make, quantized

SLOW = pytest.mark.slow  # their converters take half a minute


def needs(runtime: str) -> pytest.MarkDecorator:
    """Skip where the engine is not installed."""
    reason = engines.get(runtime).available() if runtime in engines else f"no engine {runtime}"
    return pytest.mark.skipif(reason is not None, reason=str(reason))


def computes(arithmetic: str) -> pytest.MarkDecorator:
    """Skip where OpenVINO does not compute in this arithmetic on this processor."""
    if "openvino" not in engines or engines.get("openvino").available() is not None:
        return needs("openvino")
    known = importlib.import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return pytest.mark.skipif(arithmetic not in known, reason=f"this processor has no {arithmetic}")


EXACT = pytest.mark.skipif(
    this_machine().arithmetic == "saturating",
    reason="OpenVINO's INT8 sums saturate on this processor: the gate refuses the file, 0.12 rms off",
)


FLOAT = [
    pytest.param("openvino", "fp32", marks=needs("openvino")),
    pytest.param("openvino-bf16", "bf16", marks=computes("BF16")),
    pytest.param("pt2", "fp32", marks=needs("pt2")),
    pytest.param("pt2-bf16", "bf16", marks=needs("pt2")),
    pytest.param("ncnn", "fp32", marks=[needs("ncnn"), SLOW]),
    pytest.param("ncnn-bf16", "bf16", marks=[needs("ncnn"), SLOW]),
    pytest.param("executorch", "fp32", marks=[needs("executorch"), SLOW]),
    pytest.param("litert", "fp32", marks=[needs("litert"), SLOW]),
]
INTEGER = [
    pytest.param("openvino", "w8a8", marks=[needs("openvino"), EXACT]),
    pytest.param("openvino-bf16", "w8a8+bf16", marks=computes("BF16")),
    pytest.param("executorch", "w8a8", marks=[needs("executorch"), SLOW]),
    pytest.param("litert", "w8a8", marks=[needs("litert"), SLOW]),
]


@pytest.mark.parametrize(("name", "precision"), FLOAT)
def test_float_files_agree(name: str, precision: str) -> None:
    model = make("SqueezeExcite")
    program = formats.get(name)(model, images(24))
    assert (program.runtime, program.precision) == (name.partition("-")[0], precision)
    bound = 1e-4 if precision == "fp32" else 0.05
    expected = TorchPredictor(model)(images(7))
    found = EnginePredictor(program, batch=3)(images(7))  # batches of 3, 3 and 1
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


@pytest.mark.parametrize("name", ["onnx", *(pytest.param(n, marks=[needs(n), SLOW]) for n in ("litert", "executorch"))])
@pytest.mark.parametrize("precision", ["fp32", "w8a8"])
def test_a_network_that_flattens_pixels_takes_any_batch(name: str, precision: str) -> None:
    model = make("Flat") if precision == "fp32" else quantized("Flat")
    predictor = EnginePredictor(formats.get(name)(model, images(24)), batch=3)
    expected = TorchPredictor(model)(images(7))
    for found in (predictor(images(7)), np.concatenate([predictor(images(7)[k : k + 1]) for k in range(7)])):
        assert np.abs(found - expected).max() <= 0.03 * np.abs(expected).max()


@needs("executorch")
@SLOW
def test_shortcuts_do_not_keep_executorch_from_integers() -> None:
    signature = Signature("classification", InputSpec(32, 32), ("a", "b", "c", "d"))
    pixels = images(24, 32)
    model = quantize(new_model("mobilenet_v2", signature, {"width": 0.25}, 0), pixels)
    program = formats.get("executorch")(model, pixels)
    assert program.precision == "w8a8" and program.parity["rms_difference"] < 0.04
    assert "quantized_decomposed" not in str(program.provenance["format"]["outside"])


@needs("openvino")
def test_an_arithmetic_that_the_processor_lacks_is_no_other() -> None:
    from edgepress.runtime.openvino_engine import _check_arithmetic

    _check_arithmetic("bf16", ["BF16", "FP32", "INT8"])
    _check_arithmetic("f32", ["FP32"])
    with pytest.raises(BundleError, match="not compute in FP16 on this processor, only in FP32, BF16"):
        _check_arithmetic("f16", ["BF16", "FP32", "INT8"])
    known = importlib.import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "FP16" not in known:
        with pytest.raises(BundleError, match="FP16"):
            formats.get("openvino-fp16")(make("SqueezeExcite"), images(24))


@pytest.mark.parametrize(("name", "precision"), INTEGER)
def test_integer_files_hold_our_scales(name: str, precision: str) -> None:
    program = formats.get(name)(quantized("Residual"), images(24))
    assert program.precision == precision and program.parity["max_difference"] < 0.03
    plain = formats.get(name.partition("-")[0])(make("Residual"), images(24))
    assert sum(map(len, program.files.values())) < 3 * sum(map(len, plain.files.values()))


@pytest.mark.parametrize("name", ["Residual", "SqueezeExcite", "Silu", "Concat", "Shuffle"])
@pytest.mark.parametrize("weights", ["codes", "pairs"])
def test_the_portable_graph_computes_the_same_integers(name: str, weights: str) -> None:
    model = quantized(name)
    module = portable(model, weights)  # type: ignore[arg-type]
    inputs = torch.from_numpy(to_input(images(8), model.signature.input))
    with torch.no_grad():
        found = module(inputs).numpy()
    expected = TorchPredictor(model)(images(8))
    assert np.abs(found - expected).max() <= 0.02 * np.abs(expected).max()
    held = [buffer for buffer in module.buffers() if buffer.dtype == torch.int8]
    assert held and not any("edgepress" in str(node.target) for node in module.graph.nodes)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["pt2", "ncnn"])
def test_what_a_format_cannot_hold_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(EdgepressError, match=r"integer"):
        formats.get(name)(quantized("Residual"), images(8))


def test_tensorrt_refuses_zero_points_before_it_is_looked_for() -> None:
    with pytest.raises(EdgepressError, match=r"unsigned with a zero point; export the float network"):
        formats.get("tensorrt")(quantized("Residual"), images(8))
    data = to_onnx(quantized("Residual"))
    file = onnx.load_from_string(data)
    for value in file.graph.initializer:
        if value.data_type == onnx.TensorProto.UINT8:
            zero = np.zeros(tuple(value.dims), np.int8)
            value.CopyFrom(onnx.numpy_helper.from_array(zero, value.name))
    refuse_zero_points(file.SerializeToString())


@EXACT
@needs("openvino")
def test_a_bundle_changes_its_engine_without_its_network() -> None:
    program = export_onnx(quantized("Residual"), images(24))
    converted = convert(program, "openvino", images(24))
    assert (converted.runtime, converted.precision) == ("openvino", "w8a8")
    assert converted.parity["images"] == 24 and converted.provenance["format"]["from"] == "onnx"
    with pytest.raises(EdgepressError, match="only an ONNX file is converted"):
        convert(converted, "openvino", images(8))


@needs("openvino")
def test_a_converted_file_that_differs_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgepress.export.convert import Conversion, conversions
    from edgepress.export.openvino import to_openvino

    other = export_onnx(make("Residual"), images(24))
    wrong = dataclasses.replace(export_onnx(quantized("Residual"), images(24)), precision="fp32")
    monkeypatch.setitem(conversions._found, "openvino", Conversion(lambda program: to_openvino(wrong)))
    with pytest.raises(ParityError, match="does not compute what the ONNX file does"):
        convert(other, "openvino", images(24))
