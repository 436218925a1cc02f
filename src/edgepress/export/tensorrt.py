"""TensorRT: an engine built on the NVIDIA device that will run it, from the ONNX file.

Our quantize/dequantize pairs carry the scales, so no calibration happens there: TensorRT calls this explicit
quantization. It takes zero points of 0 only; activations that are not symmetric are refused here with the way out. The
code follows the public API of TensorRT 10 and was not run where this was written, for want of a device.
"""

import importlib
from functools import partial
from typing import Any

from edgepress.core.artifact import Program
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.export.convert import HALF, from_onnx, joined, register_conversion
from edgepress.runtime.packed import onnx_file

BATCHES = (1, 1, 64)
"""The smallest, the usual and the largest batch that an engine is built for."""


def to_tensorrt(program: Program, arithmetic: str = "") -> Program:
    """Return an ONNX program as an engine for this machine's device, unchecked; `arithmetic` is "" or "fp16".

    Raises `MissingExtraError` where TensorRT is absent, `EdgepressError` where it has no place for our zero points or
    refuses an operation, which is named.
    """
    data = onnx_file(program)
    refuse_zero_points(data)
    try:
        tensorrt: Any = importlib.import_module("tensorrt")
    except ImportError:
        raise MissingExtraError("building a TensorRT engine", "tensorrt") from None
    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, tensorrt.Logger(tensorrt.Logger.ERROR))
    if not parser.parse(data):
        reasons = "; ".join(str(parser.get_error(number).desc()) for number in range(min(parser.num_errors, 3)))
        raise EdgepressError(f"TensorRT cannot read this ONNX file: {reasons}")
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, *((batch, *program.signature.input.shape) for batch in BATCHES))
    config.add_optimization_profile(profile)
    if arithmetic == "fp16":
        config.set_flag(tensorrt.BuilderFlag.FP16)
    if program.precision != "fp32":
        config.set_flag(tensorrt.BuilderFlag.INT8)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EdgepressError("TensorRT found no engine for this network; its log above names the operation")
    files, precision = {"model.engine": bytes(plan)}, joined(program.precision, arithmetic)
    return from_onnx(program, "tensorrt", files, precision, name="tensorrt", version=tensorrt.__version__)


def refuse_zero_points(data: bytes) -> None:
    """Raise `EdgepressError` where activations of an ONNX file are held in unsigned codes, which TensorRT has not."""
    import onnx

    graph = onnx.load_from_string(data).graph
    points = {i.name: i for i in graph.initializer}
    found = [
        node.input[0]
        for node in graph.node
        if node.op_type == "QuantizeLinear"
        and len(node.input) > 2
        and points[node.input[2]].data_type != onnx.TensorProto.INT8
    ]
    if found:
        raise EdgepressError(
            f"TensorRT holds activations as signed integers around 0, {len(found)} of this network are unsigned with a "
            "zero point; export the float network for it in fp16, or quantize with symmetric activations"
        )


register_conversion("tensorrt", to_tensorrt)
register_conversion("tensorrt-fp16", partial(to_tensorrt, arithmetic="fp16"), HALF)
