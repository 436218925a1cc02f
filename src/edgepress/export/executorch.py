"""ExecuTorch: a `.pte` file whose operations are handed to XNNPACK; with our scales, where the network is quantized."""

import contextlib
import importlib
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.export.decomposed import portable
from edgepress.export.formats import formats
from edgepress.export.onnx import provenance
from edgepress.export.parity import check
from edgepress.export.strides import pool_for_slices
from edgepress.runtime.batches import last_line

LARGEST_BATCH = 64
"""Memory is planned for so many images when the file is written."""


@formats.register("executorch")
def export_executorch(model: Model, samples: NDArray[np.uint8]) -> Program:
    """Return `model` for ExecuTorch, proven on `samples`; it takes up to `LARGEST_BATCH` images at once.

    The provenance names what XNNPACK does not compute (`outside`). Raises `MissingExtraError` where ExecuTorch is
    absent, `EdgepressError` where it lacks an operation, `ParityError` where the file differs.
    """
    try:
        exir: Any = importlib.import_module("executorch.exir")
        partitioner: Any = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    except ImportError:
        raise MissingExtraError("writing an ExecuTorch file", "executorch") from None
    importlib.import_module("executorch.kernels.quantized")
    module = pool_for_slices(portable(model))
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with _quietly():
        try:
            sample = torch.zeros(2, *model.signature.input.shape)
            exported = torch.export.export(module, (sample,), dynamic_shapes=({0: batch},), strict=False)
            _for_each_user(exported)
            edge = exir.to_edge_transform_and_lower(exported, partitioner=[partitioner.XnnpackPartitioner()])
            outside = Counter(_operations(edge.exported_program().graph))
            data = bytes(edge.to_executorch().buffer)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
            raise EdgepressError(f"ExecuTorch cannot take {model.builder.name}: {last_line(error)}") from error
    about = {**provenance(model), "format": {"name": "executorch", "outside": dict(outside)}}
    program = Program(model.signature, "executorch", model.precision, {"model.pte": data}, about)
    return check(model, program, samples)


def _for_each_user(exported: Any) -> None:
    """Give every user of a dequantized activation a dequantization of its own.

    XNNPACK's partitioner keeps an operation and its dequantizations together. Where a shortcut shares one with the
    layer beside it, it built parts that wait for each other, and gave up ("found dependency cycles").
    """
    graph = exported.graph
    for node in list(graph.nodes):
        if node.target is not torch.ops.quantized_decomposed.dequantize_per_tensor.default:
            continue
        for user in list(node.users)[1:]:
            with graph.inserting_before(user):
                own = graph.call_function(node.target, node.args, node.kwargs)
            own.meta = dict(node.meta)
            user.replace_input_with(node, own)
    graph.lint()
    exported.graph_module.recompile()


def _operations(graph: Any) -> Iterator[str]:
    """Yield the names of the operations that were not handed over."""
    for node in graph.nodes:
        name = str(getattr(node.target, "__name__", node.target))
        if node.op == "call_function" and name not in ("executorch_call_delegate", "getitem"):
            yield name


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("executorch", "torch", "torchao")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
