"""Quantization-aware training as edit, train, edit: `prepare` a quantized network for training, then `finish` it.

Batch norms come back for the training, with the statistics of each batch. Folding them afterwards is exact: a weight
has one scale per channel, so the factor of the batch norm goes into that scale and leaves the codes alone,
`factor * scale * code = (|factor| * scale) * (sign(factor) * code)`.

Weights of 2 bits take the four values -3, -1, 1 and 3 times their scale: no zero, but a third less between neighbors
than with -1, 0, 1. They are recorded as 3-bit codes of which only the odd ones occur.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from edgepress.core.artifact import Model
from edgepress.core.errors import EdgepressError
from edgepress.export.fake import TINY, Quantizer, Scheme
from edgepress.export.graph import Folded, parameter_of
from edgepress.quantize.observe import weight_range
from edgepress.quantize.place import FIXED_RANGES
from edgepress.quantize.ptq import observe, round_biases
from edgepress.quantize.weighted import quantizer_of

Learn = Literal["narrow", "all"]
NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}


def prepare(model: Model, learn: Learn = "narrow", rounded: float = 1.0) -> Model:
    """Return the quantized `model`, changed in place, with batch norms and step sizes that a training can change.

    With `narrow` the training sees the rounding of the quantizers below 8 bits only, which costs little more than
    training without any; `finish` sets the others. Where none is below 8 bits, and with `all`, it sees every one.
    `rounded` is the share of a weight that is rounded at each step.
    Raises `EdgepressError` for a network that is not quantized, or was loaded from disk after it.
    """
    graph_module = model.module
    if not isinstance(graph_module, fx.GraphModule) or model.precision == "fp32":
        raise EdgepressError("only a quantized network can be prepared for quantization-aware training")
    for node in list(graph_module.graph.nodes):
        if isinstance(node.meta.get("folded"), Folded) and node.op == "call_function":
            _unfold(graph_module, node, node.meta["folded"])
    narrow = [q for q in _quantizers(graph_module) if q.scheme.bits < 8]
    learned = narrow if narrow and learn == "narrow" else _free(graph_module)
    for quantizer in _quantizers(graph_module):
        quantizer.enabled = quantizer in learned
    for quantizer in learned:
        quantizer.learn()
        quantizer.rounded = rounded
    graph_module.graph.lint()
    graph_module.recompile()
    return model


def finish(model: Model, images: NDArray[np.uint8]) -> Model:
    """Return the trained `model`, changed in place, as post-training quantization would have left it.

    The batch norms are folded, learned step sizes are fixed, quantizers that the training did not see get their
    ranges from `images`, uint8 `(N, height, width, channels)`, and biases become the integers a runtime holds.
    """
    graph_module = model.module
    assert isinstance(graph_module, fx.GraphModule)
    idle = {name: q for name, q in _named(graph_module) if not q.learned and name not in _fixed(graph_module)}
    narrowed: set[str] = set()
    with torch.no_grad():
        for node in list(graph_module.graph.nodes):
            weights = _weight_quantizer(graph_module, node)
            if weights is not None:
                weights_name = str(node.args[1].target).rpartition(".")[2]
                if _bake(graph_module, node, weights):
                    narrowed.add(weights_name)
                idle.pop(weights_name, None)
    for quantizer in _quantizers(graph_module):
        quantizer.enabled = True
        if quantizer.learned:
            quantizer.learn(False)
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    graph_module.eval()
    observe(graph_module, idle, images, model.signature)
    round_biases(graph_module)
    return _recorded(model, narrowed)


def _unfold(graph_module: fx.GraphModule, node: fx.Node, folded: Folded) -> None:
    """Give a convolution or linear layer its own weights back, and the batch norm after it."""
    quantizer_node = node.args[1]
    assert isinstance(quantizer_node, fx.Node)
    weight = parameter_of(graph_module, quantizer_node.all_input_nodes[0])
    quantizer = _weight_quantizer(graph_module, node)
    if weight is None or quantizer is None:
        return
    norm: Any = NORMS[node.meta["val"].dim()](len(folded.gamma), eps=folded.epsilon)
    with torch.no_grad():
        weight.copy_(folded.weight)
        norm.weight.copy_(folded.gamma)
        norm.bias.copy_(folded.beta)
        norm.running_mean.copy_(folded.mean)
        norm.running_var.copy_(folded.variance)
        quantizer.set_range(*_range(folded.weight, quantizer.scheme))
        bias = parameter_of(graph_module, node.args[2])
        assert bias is not None
        bias.copy_(torch.zeros_like(bias) if folded.bias is None else folded.bias)
    path = f"norms.{node.name}"
    if "norms" not in graph_module._modules:
        graph_module.add_module("norms", nn.Module())
    graph_module.add_submodule(path, norm)
    with graph_module.graph.inserting_after(node):
        added = graph_module.graph.call_module(path, (node,))
    added.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(added, delete_user_cb=lambda user: user is not added)


def _bake(graph_module: fx.GraphModule, node: fx.Node, quantizer: Quantizer) -> bool:
    """Put the codes of a weight, and the batch norm after it, into the weight; True where odd codes need another width.

    A weight that lies on its own grid is rounded to the same codes by every later reader.
    """
    quantizer_node: Any = node.args[1]
    weight = parameter_of(graph_module, quantizer_node.all_input_nodes[0])
    assert weight is not None
    rounded = quantizer(weight).detach() if quantizer.enabled else weight.detach().clone()
    factor, shift = _affine(graph_module, node)
    shape = (-1, *[1] * (weight.dim() - 1))
    weight.copy_((rounded.double() * factor.view(shape)).float())
    bias = parameter_of(graph_module, node.args[2]) if len(node.args) > 2 else None
    if bias is not None:
        bias.copy_((bias.double() * factor + shift).float())
    odd = quantizer.odd and quantizer.enabled
    if quantizer.enabled:
        scale = (quantizer.scale.detach().abs().double() * factor.abs()).clamp(min=TINY).float()
        learned = quantizer.learned
        quantizer.learn(False)
        quantizer.scale.copy_(scale)
        quantizer.learned = learned
    else:
        quantizer.set_range(*weight_range(weight, quantizer.scheme, steps=1))
    if odd:
        quantizer.scheme = replace(quantizer.scheme, bits=3)
    return odd


def _affine(graph_module: fx.GraphModule, node: fx.Node) -> tuple[Tensor, Tensor]:
    """Return factor and shift, float64, of the batch norm after `node`, and take it out; 1 and 0 without one."""
    reader = next(iter(node.users))
    path = str(reader.target)
    channels = node.args[1].meta["val"].shape[0]  # type: ignore[union-attr]
    if reader.op != "call_module" or not path.startswith("norms."):
        return torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    norm: Any = graph_module.get_submodule(path)
    factor = norm.weight.detach().double() * (norm.running_var.double() + norm.eps).rsqrt()
    shift = norm.bias.detach().double() - norm.running_mean.double() * factor
    reader.replace_all_uses_with(node)
    graph_module.graph.erase_node(reader)
    graph_module.delete_submodule(path)
    return factor, shift


def _range(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Return where the learning of a weight's step size begins."""
    if scheme.bits != 2:
        return weight_range(weight, scheme, steps=48 if scheme.bits < 8 else 1)
    # The best four equidistant values of a normal variable lie 0.996 standard deviations apart (Max 1960).
    highest = 0.498 * weight.detach().flatten(1).std(1).clamp(min=TINY)
    return -highest, highest


def _recorded(model: Model, narrowed: set[str]) -> Model:
    """Return `model` with the widths that the weights now have in the record of its quantization."""
    edit = dict(model.edits[-1])
    edit["sites"] = [{**site, "bits": 3} if site["quantizer"] in narrowed else site for site in edit["sites"]]
    graph_module = model.module
    if "norms" in graph_module._modules:
        graph_module._modules.pop("norms")
    return replace(model, edits=(*model.edits[:-1], edit), key="")


def _named(graph_module: fx.GraphModule) -> list[tuple[str, Quantizer]]:
    held: Any = graph_module.get_submodule("quantizers")
    return [(name, module) for name, module in held.named_children() if isinstance(module, Quantizer)]


def _quantizers(graph_module: fx.GraphModule) -> list[Quantizer]:
    return [quantizer for _, quantizer in _named(graph_module)]


def _fixed(graph_module: fx.GraphModule) -> set[str]:
    return {node.name for node in graph_module.graph.nodes if node.target in FIXED_RANGES}


def _free(graph_module: fx.GraphModule) -> list[Quantizer]:
    fixed = _fixed(graph_module)
    return [quantizer for name, quantizer in _named(graph_module) if name not in fixed]


def _weight_quantizer(graph_module: fx.GraphModule, node: fx.Node) -> Quantizer | None:
    """Return the quantizer through which a weighted operation reads a stored weight."""
    source = node.args[1] if node.op == "call_function" and len(node.args) > 1 else None
    quantizer = quantizer_of(graph_module, source)
    if quantizer is None or not source.all_input_nodes:  # type: ignore[union-attr]
        return None
    return quantizer if parameter_of(graph_module, source.all_input_nodes[0]) is not None else None  # type: ignore[union-attr]
