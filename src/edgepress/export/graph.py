"""A network as a flat graph of tensor operations, as exporters and quantizers see it; batch norms are folded.

The names of parameters stay those of the network (`layer1.0.conv1.weight`), so that its state dict remains readable.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen, _Namespace

from edgepress.core.artifact import Signature
from edgepress.core.errors import EdgepressError

aten = torch.ops.aten

BATCH_NORMS = (aten._native_batch_norm_legit_no_training.default, aten.batch_norm.default)
CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding)
VIEWS = (aten.view.default, aten._unsafe_view.default)
FOLDS = (*CONVOLUTIONS, aten.linear.default, aten.conv_transpose2d.input)


@dataclass(frozen=True)
class Folded:
    """What a batch norm was, and the layer before it had, before the two became one: kept in `node.meta["folded"]`.

    `weight` and `bias` are the layer's own; the others are those of the batch norm, each `(channels,)`.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    gamma: torch.Tensor
    beta: torch.Tensor
    mean: torch.Tensor
    variance: torch.Tensor
    epsilon: float


def trace(module: nn.Module, signature: Signature, for_integers: bool = True) -> fx.GraphModule:
    """Return `module` as a graph of ATen operations that computes what it computes in evaluation mode, any batch size.

    Dropout is gone and every batch norm is folded into the convolution or linear layer before it. `for_integers`, what
    integer runtimes lack is written in what they have: a batch norm with nothing before it as a depthwise convolution,
    compound activations in parts (`hard_swish(x) = x * hard_sigmoid(x)`), a mean over the image as global pooling.
    The result can be trained and holds its own copies of the weights. The same network gives the same node names
    every time. Raises `EdgepressError` where PyTorch cannot export the network.
    """
    graph_module = export_graph(module, signature)
    for node in list(graph_module.graph.nodes):
        if node.op == "call_module":  # the shape guards that torch.export adds
            graph_module.graph.erase_node(node)
    for node in graph_module.graph.nodes:
        if node.target in VIEWS:  # traced on contiguous memory; channels-last inputs need the copy
            node.target = aten.reshape.default
    if for_integers:
        _write_out_activations(graph_module)
        _name_means(graph_module)
    _fold_batch_norms(graph_module, for_integers)
    graph_module.graph.eliminate_dead_code()
    _name_nodes(graph_module.graph)
    return _tidy(graph_module)


def export_graph(module: nn.Module, signature: Signature) -> fx.GraphModule:
    """Return what `torch.export` makes of a copy of `module`, without in-place operations."""
    parameter = next(module.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    sample = torch.zeros(2, *signature.input.shape, device=device)
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            program = torch.export.export(
                copy.deepcopy(module).eval(), (sample,), dynamic_shapes=({0: batch},), strict=False
            )
            flat = program.run_decompositions({}).module(check_guards=False)
    except (RuntimeError, ValueError, TypeError) as error:  # torch.export's own errors derive from these
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EdgepressError(
            f"PyTorch cannot export {type(module).__name__} for inputs (batch, {signature.input.shape}): {reason}"
        ) from error
    assert isinstance(flat, fx.GraphModule)
    return flat


def module_path(node: fx.Node) -> str:
    """Return the dotted path of the submodule that `node` came from, or "" for the network itself."""
    stack = node.meta.get("nn_module_stack")
    return str(list(stack.values())[-1][0]) if stack else ""


def attribute(module: nn.Module, path: str) -> Any:
    """Return the parameter, buffer or submodule of `module` at the dotted `path`."""
    return operator.attrgetter(path)(module)


def parameter_of(graph_module: fx.GraphModule, node: object) -> torch.Tensor | None:
    """Return the tensor that a `get_attr` node stands for; None for any other argument."""
    if isinstance(node, fx.Node) and node.op == "get_attr":
        value = attribute(graph_module, str(node.target))
        return value if isinstance(value, torch.Tensor) else None
    return None


def shape_of(node: object) -> tuple[Any, ...]:
    """Return the shape that tracing saw for `node` (symbolic in the batch), or () where it has none."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def _name_nodes(graph: fx.Graph) -> None:
    """Name operations after their submodule and operation (`layer1_0_relu1_relu`), not by PyTorch's running numbers,
    which depend on how often it traced inside."""
    names = graph._graph_namespace = _Namespace()
    for node in graph.nodes:
        wanted = node.name
        if node.op == "call_function":
            operation = getattr(node.target, "_opname", getattr(node.target, "__name__", "op"))
            wanted = f"{module_path(node)}_{operation}".replace(".", "_").strip("_")
        node.name = names.create_name(wanted, node)


def _tidy(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Copy into a fresh GraphModule: the exported one refuses `train()`; unused parameters stay behind."""
    graph_module.graph.set_codegen(CodeGen())
    for node in graph_module.graph.nodes:
        if node.op == "output" and isinstance(node.args[0], list | tuple):
            node.args = (node.args[0][0],)  # one output: the tensor, not a tuple of one
    fresh = fx.GraphModule(graph_module, graph_module.graph)
    fresh.graph.lint()
    fresh.recompile()
    return fresh


def _insert(
    graph: fx.Graph, before: fx.Node, like: fx.Node, target: Callable[..., Any], args: tuple[Any, ...]
) -> fx.Node:
    with graph.inserting_before(before):
        node = graph.call_function(target, args)
    node.meta = dict(like.meta)
    return node


def _write_out_activations(graph_module: fx.GraphModule) -> None:
    gates = {aten.hardswish.default: aten.hardsigmoid.default, aten.silu.default: aten.sigmoid.default}
    for node in list(graph_module.graph.nodes):
        if node.op == "call_function" and node.target in gates:
            gate = _insert(graph_module.graph, node, node, gates[node.target], (node.args[0],))
            product = _insert(graph_module.graph, node, node, aten.mul.Tensor, (node.args[0], gate))
            node.replace_all_uses_with(product)
            graph_module.graph.erase_node(node)


def _name_means(graph_module: fx.GraphModule) -> None:
    """Write a mean over height and width as global average pooling, which integer runtimes know."""
    for node in list(graph_module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.mean.dim or len(shape_of(node.args[0])) != 4:
            continue
        if sorted(d % 4 for d in node.args[1]) != [2, 3] or node.kwargs.get("dtype") is not None:
            continue
        keep = (len(node.args) > 2 and bool(node.args[2])) or bool(node.kwargs.get("keepdim"))
        pooled = _insert(graph_module.graph, node, node, aten.adaptive_avg_pool2d.default, (node.args[0], [1, 1]))
        pooled.meta["val"] = node.args[0].meta["val"].new_empty((*shape_of(node.args[0])[:2], 1, 1))
        flat = pooled if keep else _insert(graph_module.graph, node, node, aten.flatten.using_ints, (pooled, 1))
        node.replace_all_uses_with(flat)
        graph_module.graph.erase_node(node)


def _fold_batch_norms(graph_module: fx.GraphModule, for_integers: bool) -> None:
    graph = graph_module.graph
    for norm in [n for n in graph.nodes if n.op == "call_function" and n.target in BATCH_NORMS]:
        users = list(norm.users)
        first = norm.target is BATCH_NORMS[0]
        if first and not all(u.target is operator.getitem and u.args[1] == 0 for u in users):
            continue  # somebody reads the statistics
        factor, shift = _affine(graph_module, norm)
        source = norm.args[0]
        if _foldable(source):
            source.meta["folded"] = _before_folding(graph_module, source, norm)  # type: ignore[union-attr]
            _fold(graph_module, source, factor, shift)
            result = source
        elif for_integers and len(shape_of(source)) == 4:
            result = _as_depthwise(graph_module, norm, factor, shift)
        else:
            continue
        for user in users if first else [norm]:
            user.replace_all_uses_with(result)
            graph.erase_node(user)
        if first:
            graph.erase_node(norm)


def _foldable(source: Any) -> bool:
    if source.op != "call_function" or source.target not in FOLDS or len(source.users) != 1:
        return False
    if source.target is aten.linear.default and len(shape_of(source)) != 2:
        return False  # the batch norm counts its channels along axis 1, the layer along the last
    weight = source.args[1]
    if weight.op != "get_attr" or len(weight.users) != 1:
        return False  # a tied weight must not change for one of its users only
    groups = source.args[6] if len(source.args) > 6 else 1
    return source.target is not aten.conv_transpose2d.input or groups == 1


def _affine(graph_module: fx.GraphModule, norm: fx.Node) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factor and shift, float64 `(channels,)`, of `norm`: `y = factor * x + shift`."""
    tensors = [parameter_of(graph_module, argument) for argument in norm.args[1:5]]
    gamma, beta, mean, variance = (None if t is None else t.detach().double() for t in tensors)
    assert mean is not None and variance is not None
    factor = (variance + _epsilon(norm)).rsqrt()
    factor = factor if gamma is None else factor * gamma
    shift = -mean * factor
    return factor, shift if beta is None else shift + beta


def _epsilon(norm: fx.Node) -> float:
    return float(norm.args[-1 if norm.target is BATCH_NORMS[0] else 7])  # type: ignore[arg-type]


def _before_folding(graph_module: fx.GraphModule, source: Any, norm: fx.Node) -> Folded:
    own = [parameter_of(graph_module, argument) for argument in source.args[1:3]]
    weight, bias = own[0], own[1] if len(own) > 1 else None
    gamma, beta, mean, variance = (parameter_of(graph_module, argument) for argument in norm.args[1:5])
    assert weight is not None and mean is not None and variance is not None
    gamma = torch.ones_like(mean) if gamma is None else gamma
    beta = torch.zeros_like(mean) if beta is None else beta
    copies = (t.detach().clone() for t in (gamma, beta, mean, variance))
    return Folded(
        weight.detach().clone(), None if bias is None else bias.detach().clone(), *copies, epsilon=_epsilon(norm)
    )


def _fold(graph_module: fx.GraphModule, source: fx.Node, factor: torch.Tensor, shift: torch.Tensor) -> None:
    weight_node, bias_node = source.args[1], source.args[2] if len(source.args) > 2 else None
    weight, bias = parameter_of(graph_module, weight_node), parameter_of(graph_module, bias_node)
    assert weight is not None and isinstance(weight_node, fx.Node)
    shape = [1] * weight.dim()
    shape[1 if source.target is aten.conv_transpose2d.input else 0] = -1
    new_weight = (weight.detach().double() * factor.view(shape)).to(weight.dtype)
    new_bias = (shift if bias is None else shift + bias.detach().double() * factor).to(weight.dtype)
    path = str(weight_node.target)
    _set_parameter(graph_module, path, new_weight)
    bias_path = _bias_path(graph_module, path, bias_node)
    _set_parameter(graph_module, bias_path, new_bias)
    with graph_module.graph.inserting_after(weight_node):
        added = graph_module.graph.get_attr(bias_path)
    added.meta["val"] = new_bias
    source.args = (*source.args[:1], weight_node, added, *source.args[3:])


def _bias_path(graph_module: fx.GraphModule, weight: str, bias: Any) -> str:
    """Return where a layer's folded bias goes: where its own was, if no other layer has that too; else a free path."""
    if isinstance(bias, fx.Node) and bias.op == "get_attr" and len(bias.users) == 1:
        return str(bias.target)
    owner, dot, _ = weight.rpartition(".")
    path = f"{owner}.bias" if dot else f"{weight}_bias"
    try:
        taken = attribute(graph_module, path) is not None
    except AttributeError:
        taken = False
    return f"{weight}_bias" if taken else path


def _as_depthwise(graph_module: fx.GraphModule, norm: fx.Node, factor: torch.Tensor, shift: torch.Tensor) -> fx.Node:
    """Write a batch norm with nothing to fold into as a 1x1 depthwise convolution: integer runtimes have that one."""
    graph = graph_module.graph
    shared = any(isinstance(part, fx.Node) and len(part.users) > 1 for part in norm.args[1:5])
    path = f"{norm.name}_affine" if shared else module_path(norm) or norm.name
    anchor = next(iter(graph.nodes))
    with graph.inserting_before(anchor):
        nodes = []
        for name, value in (("weight", factor.float().view(-1, 1, 1, 1)), ("bias", shift.float())):
            _set_parameter(graph_module, f"{path}.{name}", value)
            nodes.append(graph.get_attr(f"{path}.{name}"))
            nodes[-1].meta["val"] = value
    args = (norm.args[0], *nodes, [1, 1], [0, 0], [1, 1], len(factor))
    conv = _insert(graph, norm, norm, aten.conv2d.default, args)
    conv.meta["val"] = norm.args[0].meta["val"]  # type: ignore[union-attr]
    return conv


def _set_parameter(graph_module: fx.GraphModule, path: str, value: torch.Tensor) -> None:
    owner_path, _, name = path.rpartition(".")
    owner: Any = graph_module
    for part in owner_path.split(".") if owner_path else []:
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner._modules[part]
    owner._parameters.pop(name, None)
    owner._buffers.pop(name, None)
    owner.register_parameter(name, nn.Parameter(value))
