"""`packed-w4`, `packed-w2`, `packed-load`: small files at the speed of INT8, against ONNX's own INT4 and INT2 tensors.

The network is our ResNet-18 at 32x32 with its initial weights: neither bytes nor milliseconds need trained ones (the
rows named `untrained-...` say so; the packed codes of an initial network are as unequal in frequency as a bell curve
makes them). All calls are of one image on one pinned core, in turns.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.base import Options
from benchmarks.side_by_side import in_turns
from edgepress.core.artifact import Model, Program, Signature
from edgepress.core.inputs import InputSpec
from edgepress.export.onnx import to_onnx
from edgepress.export.packed import compress
from edgepress.measure.rows import Row
from edgepress.measure.timing import pinned
from edgepress.models.build import new_model
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.runtime.onnxruntime_engine import OnnxRuntimeSession
from edgepress.runtime.packed import PACKED, PLAIN, expand
from edgepress.runtime.packing import limits, pack
from edgepress.runtime.predictor import EnginePredictor

ROUNDS, LOADS, WEIGHTS = 300, 15, 10_000_000
NAMES = {8: "int8", 4: "int4", 2: "int2"}
PACKED_BITS = (4, 2)
DIRECT = {4: (TensorProto.INT4, 21), 2: (TensorProto.INT2, 25)}
"""ONNX's type for codes of a width, and the first opset that dequantizes it."""

PEERS = {"int4": 4, "int4-qdq-off": 4, "int2-qdq-off": 2}
"""How ONNX Runtime runs the same codes as its own tensors. As it comes, 1.31 refuses INT2 (it gives the weights to
QLinearConv, which does not take them); with `session.disable_quant_qdq` it unpacks weights to FP32 while loading."""

Call = Callable[[], object]


def measure(options: Options) -> list[Row]:
    """Return bytes, latencies side by side, and what unpacking adds to loading."""
    model = _network(quick=options.quick)
    plain = {0: to_onnx(model), **{bits: to_onnx(_quantized(model, bits)) for bits in NAMES}}
    files = {bits: compress(data) if bits in PACKED_BITS else data for bits, data in plain.items()}
    calls: dict[str, Call] = {}
    for bits, data in files.items():
        calls[NAMES.get(bits, "fp32")] = _ours(model, data, packed=bits in PACKED_BITS)
    for bits in PACKED_BITS:
        for peer, width in PEERS.items():
            if width >= bits:
                calls[f"w{bits}-{peer}"] = _bare(model, as_onnx_tensors(plain[bits], width), "off" in peer)
    times = in_turns(calls, 5 if options.quick else ROUNDS)
    sizes = {NAMES.get(bits, "fp32"): len(data) for bits, data in files.items()}
    return [*_sizes(options, sizes), *_speeds(options, times), *_loading(options)]


def as_onnx_tensors(data: bytes, bits: int) -> bytes:
    """Return the ONNX file `data` with its convolution weights as ONNX tensors of `bits` bits, packed raw bytes."""
    model = onnx.load_from_string(data)
    kind, opset = DIRECT[bits]
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.INT8 or len(tensor.dims) != 4:
            continue
        codes = numpy_helper.to_array(tensor)
        low, high = limits(bits, signed=True)
        if codes.min() >= low and codes.max() <= high:
            tensor.data_type, tensor.raw_data = kind, pack(codes, bits)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        model.graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    ).SerializeToString()


def _network(quick: bool) -> Model:
    spec = InputSpec(32, 32, 3, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    signature = Signature("classification", spec, tuple(str(number) for number in range(10)))
    return new_model("resnet18", signature, {"width": 8} if quick else {}, seed=0)


def _quantized(model: Model, bits: int) -> Model:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3)).astype(np.uint8)
    return quantize(model, noise, QuantizeConfig(weights=bits))


def _ours(model: Model, data: bytes, packed: bool) -> Call:
    program = Program(model.signature, "onnxruntime", "", {PACKED if packed else PLAIN: data})
    predictor, array = EnginePredictor(program, threads=1), _array(model)
    return lambda: predictor.run(array)


def _bare(model: Model, data: bytes, qdq_off: bool) -> Call:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    if qdq_off:
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    inference = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    session, array = OnnxRuntimeSession(inference, model.signature), _array(model)
    return lambda: session(array)


def _array(model: Model) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, *model.signature.input.shape), np.float32)


def _sizes(options: Options, sizes: dict[str, int]) -> list[Row]:
    rows: list[Row] = []
    for name, size in sizes.items():
        about = {"precision": name, "runtime": "onnxruntime"}
        rows.append(options.row(f"untrained-resnet18-{name}", "bytes", size, "bytes", "lower", **about))
        rows.append(
            options.row(f"untrained-resnet18-{name}", "ratio_bytes", sizes["fp32"] / size, "x", "higher", **about)
        )
    return rows


def _speeds(options: Options, times: dict[str, list[float]]) -> list[Row]:
    """Return latencies, and their ratios as medians over rounds: what disturbs a round disturbs all its calls."""
    about = {"n": len(times["fp32"]), "threads": 1, "batch": 1, "runtime": "onnxruntime"}
    rows: list[Row] = []
    for name in ("fp32", *NAMES.values()):
        taken = times[name]
        quantiles = {"p50": statistics.median(taken), "p99": float(np.quantile(taken, 0.99))}
        artifact = f"untrained-resnet18-{name}"
        row = options.row(artifact, "latency", quantiles["p50"], "ms", "lower", **about, **quantiles, precision=name)
        faster = options.row(artifact, "speedup", _ratio(times["fp32"], taken), "x", "higher", **about, precision=name)
        rows += [row, faster]
    for bits in PACKED_BITS:
        mine = times[NAMES[bits]]
        about["precision"] = f"w{bits}a8"
        rows.append(options.row(f"packed-w{bits}", "ratio", _ratio(mine, times["int8"]), "x", "lower", **about))
        for peer in PEERS:
            if f"w{bits}-{peer}" in times:
                metric = "speedup" if peer == "int4" else f"speedup_over_{peer}".replace("-", "_")
                value = _ratio(times[f"w{bits}-{peer}"], mine)
                rows.append(options.row(f"packed-w{bits}", metric, value, "x", "higher", **about))
    return rows


def _ratio(times: list[float], base: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(times, base, strict=True))


def _loading(options: Options) -> list[Row]:
    """Return what it takes to make the plain file of 10 M weights out of a packed one, codes as after a bell curve."""
    rows: list[Row] = []
    rng = np.random.default_rng(0)
    count = WEIGHTS // 100 if options.quick else WEIGHTS
    for bits, step in ((4, 0.37), (2, 1.22)):  # the steps with the least squared error for a bell curve
        most = 2 ** (bits - 1) - 1
        codes = np.clip(np.rint(rng.standard_normal(count) / step), -most, most).astype(np.int8)
        graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(codes, "weights")])
        packed = compress(helper.make_model(graph).SerializeToString())
        taken: list[float] = []
        with pinned(1):
            for _ in range(LOADS):
                begin = time.perf_counter()
                expand(packed)
                taken.append((time.perf_counter() - begin) * 1e3)
        about = {"n": LOADS, "p50": statistics.median(taken), "p99": max(taken), "threads": 1}
        artifact = "packed-load" if bits == 4 else f"packed-load-w{bits}"
        rows.append(options.row(artifact, "ms", about["p50"], "ms", "lower", **about, precision=f"w{bits}a8"))
    return rows
