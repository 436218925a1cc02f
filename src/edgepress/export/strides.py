"""Every other row or column of an image, written so that every converter understands it.

A slice with a step (`x[:, :, ::2, ::2]`, the shortcut without weights of He et al., 2015) is unknown to pnnx, and of a
ResNet-20 with it LiteRT's converter wrote a file that computes something else. A pooling over one pixel is the same to
the bit.
"""

from typing import Any

import torch
from torch import fx, nn

END = 2**31 - 1
"""An end behind every image."""


def pool_for_slices(module: nn.Module) -> nn.Module:
    """Replace, in place, slices of a traced network that keep everything, and those that keep every n-th row or column
    from the first; return `module`."""
    assert isinstance(module, fx.GraphModule)
    aten: Any = torch.ops.aten
    for node in list(module.graph.nodes):
        if node.target is not aten.slice.Tensor:
            continue
        value, dim, start, end, step = (*node.args, *(0, None, None, 1)[len(node.args) - 1 :])
        if start not in (0, None) or not (end is None or end >= END):
            continue
        if step == 1:
            node.replace_all_uses_with(value)
        elif dim in (2, 3):
            strides = [step, 1] if dim == 2 else [1, step]
            with module.graph.inserting_after(node):
                pooled = module.graph.call_function(aten.max_pool2d.default, (value, [1, 1], strides))
            pooled.meta = dict(node.meta)
            node.replace_all_uses_with(pooled)
        else:
            continue
        module.graph.erase_node(node)
    module.recompile()
    return module


def pool_for_onnx_slices(data: bytes) -> bytes:
    """Return the ONNX file `data` with the same done to its Slice nodes of one axis."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(data)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for place, node in enumerate(model.graph.node):
        if node.op_type != "Slice" or len(node.input) != 5 or not all(name in held for name in node.input[1:]):
            continue
        starts, ends, axes, steps = (held[name].reshape(-1).tolist() for name in node.input[1:])
        if len(axes) != 1 or starts[0] or ends[0] < END or axes[0] not in (2, 3) or steps[0] < 2:
            continue
        strides = [steps[0], 1] if axes[0] == 2 else [1, steps[0]]
        pooled = helper.make_node(
            "MaxPool", [node.input[0]], list(node.output), node.name, kernel_shape=[1, 1], strides=strides
        )
        model.graph.node[place].CopyFrom(pooled)
    return model.SerializeToString()
