import collections
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgepress.core.artifact import Program
from edgepress.core.errors import ParityError, UnknownNameError
from edgepress.export.formats import formats
from edgepress.export.onnx import FILE, export_onnx, to_onnx
from edgepress.export.parity import check
from edgepress.models.predictor import TorchPredictor
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.ptq import quantize
from edgepress.runtime.predictor import EnginePredictor
from quantize.nets import NETS, images, make, quantized

# What ONNX Runtime makes of each network: nothing computes in floating point but what must.
KERNELS = {
    "Flat": {"QLinearConv": 1, "QGemm": 1},
    "Residual": {"QLinearConv": 3, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    "SqueezeExcite": {"QLinearConv": 4, "QLinearAdd": 3, "QLinearMul": 3, "QLinearGlobalAveragePool": 2, "QGemm": 1},
    "Silu": {
        "QLinearConv": 2, "QLinearSigmoid": 1, "QLinearMul": 1, "QLinearAveragePool": 1,
        "QLinearGlobalAveragePool": 1, "QGemm": 1,
    },
    "PreActivation": {"QLinearConv": 4, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1},
    "Concat": {"QLinearConv": 4, "QLinearConcat": 1},
    "Pooled": {"QLinearConv": 2, "NhwcMaxPool": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    "Shuffle": {"QLinearConv": 2, "QLinearConcat": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    "Padded": {"QLinearConv": 1, "NhwcMaxPool": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1},
    "Gelu": {"QLinearConv": 2, "QLinearGlobalAveragePool": 1, "QGemm": 1},
}  # fmt: skip
FLOAT_KERNELS = {"Conv", "Gemm", "Add", "Mul", "Relu", "Clip", "Sigmoid", "HardSigmoid", "GlobalAveragePool", "Concat"}


@cache
def exported(name: str) -> Program:
    """Return the integer program of the network `name`; shared between tests."""
    return export_onnx(quantized(name), images(24))


def kernels(data: bytes, folder: Path) -> collections.Counter[str]:
    """Return how often ONNX Runtime runs each kernel for this file, after all its optimizations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return collections.Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("name", NETS)
def test_integer_files_run_integer_kernels_and_agree(name: str, tmp_path: Path) -> None:
    program = exported(name)
    found = kernels(program.files[FILE], tmp_path)
    assert {op: found[op] for op in KERNELS[name]} == KERNELS[name]
    assert not FLOAT_KERNELS & set(found)
    assert program.parity["max_difference"] < 0.02 and program.parity["images"] == 24
    assert (program.precision, program.runtime) == ("w8a8", "onnxruntime")


def test_behind_a_stem_in_float_the_pool_sees_floats(tmp_path: Path) -> None:
    program = export_onnx(quantize(make("Pooled"), images(24), QuantizeConfig(bits={"stem.0": 32})), images(24))
    kernels(program.files[FILE], tmp_path)
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    sources = {name: node.op_type for node in graph.node for name in node.output}
    pool = next(node for node in graph.node if node.op_type == "MaxPool")
    assert sources[pool.input[0]] in ("Conv", "ReorderOutput")
    assert [node.op_type for node in graph.node].count("QuantizeLinear") == 1
    assert program.parity["max_difference"] < 0.02


@pytest.mark.parametrize("name", ["Residual", "SqueezeExcite", "PreActivation"])
def test_float_files_agree(name: str) -> None:
    program = export_onnx(make(name), images(24))
    assert program.parity["max_difference"] < 1e-5 and program.parity["agreement"] == 100


def test_the_file_is_valid_slim_and_takes_any_batch() -> None:
    data = exported("Residual").files[FILE]
    file = onnx.load_from_string(data)
    onnx.checker.check_model(file, full_check=True)
    assert [v.name for v in file.graph.input] == ["input"] and [v.name for v in file.graph.output] == ["output"]
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert not file.graph.value_info and not file.metadata_props and not file.graph.doc_string
    assert not any(node.name or node.doc_string or node.metadata_props for node in file.graph.node)
    assert {p.domain for p in file.opset_import} == {""}
    stored = [i.data_type for i in file.graph.initializer if len(i.dims) == 4]
    assert stored == [onnx.TensorProto.INT8] * 3
    content = [i.SerializeToString() for i in file.graph.initializer for i.name in [""]]
    assert len(content) == len(set(content))
    weights = sum(np.prod(i.dims) for i in file.graph.initializer if i.data_type == onnx.TensorProto.INT8)
    assert len(data) < weights + 2600


def test_the_same_network_gives_the_same_bytes() -> None:
    assert to_onnx(quantized("Concat")) == exported("Concat").files[FILE]


def test_values_below_zero_are_padded_with_the_zero_point(tmp_path: Path) -> None:
    program = exported("Shuffle")
    assert kernels(program.files[FILE], tmp_path)["Pad"] == 1
    file = onnx.load_from_string(program.files[FILE])
    pad = next(node for node in file.graph.node if node.op_type == "Pad")
    value = next(i for i in file.graph.initializer if i.name == pad.input[2])
    assert int(onnx.numpy_helper.to_array(value)) > 50


def test_a_wrong_file_does_not_pass_the_gate() -> None:
    model, program = quantized("Residual"), exported("Residual")
    file = onnx.load_from_string(program.files[FILE])
    stored = {i.name: i for i in file.graph.initializer}
    weights = [
        n
        for n in file.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in stored and len(stored[n.input[0]].dims) == 4
    ]
    scale = stored[weights[0].input[1]]
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 2, scale.name))
    wrong = Program(model.signature, "onnxruntime", "w8a8", {FILE: file.SerializeToString()})
    with pytest.raises(ParityError, match=r"max difference .* at most 0\.1"):
        check(model, wrong, images())
    with pytest.raises(ParityError, match="max difference"):
        check(model, exported("SqueezeExcite"), images())
    assert check(model, program, images(24)).parity == program.parity


def test_an_undecided_network_passes() -> None:
    model = make("Residual")
    model.module.head.linear.weight.data.mul_(1e-3)  # type: ignore[union-attr]
    model.module.head.linear.bias.data.fill_(1)  # type: ignore[union-attr]
    undecided = quantize(model, images())
    program = export_onnx(undecided, images(64))
    assert np.allclose(EnginePredictor(program)(images()), TorchPredictor(undecided)(images()), atol=1e-3)


def test_provenance_says_where_it_comes_from() -> None:
    program = exported("Residual")
    assert program.provenance["model"]["name"] == "quantize.nets:Residual"
    (edit,) = program.provenance["edits"]
    assert edit["name"] == "quantize" and edit["weights"] == 8 and "sites" not in edit
    assert set(program.provenance["versions"]) == {"torch", "onnx"}


def test_unknown_format() -> None:
    assert "onnx" in formats
    with pytest.raises(UnknownNameError, match="onnx"):
        formats.get("onx")


def test_a_file_whose_layers_have_the_same_codes_loads_where_signed_weights_become_unsigned() -> None:
    import onnx_ir as ir
    from onnx import TensorProto, helper

    from edgepress.export.slim import slim

    codes = [helper.make_tensor(f"w{n}", TensorProto.INT8, [4, 1, 1, 1], [127] * 4) for n in (0, 1, 2)]
    # The first two are the same to the last number, the third shares their codes.
    scales = [helper.make_tensor(f"s{n}", TensorProto.FLOAT, [], [0.1 + n // 2]) for n in (0, 1, 2)]
    steps = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.02]),
        helper.make_tensor("z", TensorProto.UINT8, [], [9]),
    ]
    nodes = []
    for n in (0, 1, 2):
        nodes += [
            helper.make_node("QuantizeLinear", [f"x{n}", "s", "z"], [f"q{n}"]),
            helper.make_node("DequantizeLinear", [f"q{n}", "s", "z"], [f"d{n}"]),
            helper.make_node("DequantizeLinear", [f"w{n}", f"s{n}"], [f"dw{n}"]),
            helper.make_node("Conv", [f"d{n}", f"dw{n}"], [f"c{n}"], group=4),
            helper.make_node("QuantizeLinear", [f"c{n}", "s", "z"], [f"r{n}"]),
            helper.make_node("DequantizeLinear", [f"r{n}", "s", "z"], [f"x{n + 1}"]),
        ]
    about = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 2, 2]) for name in ("x0", "x3")]
    graph = helper.make_graph(nodes, "g", about[:1], about[1:], [*codes, *scales, *steps])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy(), name=name)
    slim(model)
    data = ir.to_proto(model).SerializeToString()
    weights = [i for i in onnx.load_from_string(data).graph.initializer if i.data_type == TensorProto.INT8]
    assert len(weights) == 3
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
