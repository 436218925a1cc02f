"""The layer `Factored`: a chain of thinner layers in the place of a dense one."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from edgepress.factorize.pieces import ONE, Pair, Piece, Whole, piece_of
from edgepress.models.layers import layer


@layer("Factored")
class Factored(nn.Sequential):
    """Linear layers or convolutions one after the other, nothing between them: together still one linear map.

    Only the last one has a bias. The members may be pruned and trained like other layers.
    """

    def config(self) -> dict[str, Any]:
        """Return no arguments: the members are recorded one by one."""
        return {}

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """The structure of the members, in order."""
        return tuple(piece_of(part) for part in self)

    def whole(self) -> Whole:
        """Return the dense layer that this chain computes."""
        weight, piece = _kernel(self[0]), piece_of(self[0])
        for part in list(self)[1:]:
            weight, piece = _joined(weight, piece, _kernel(part), piece_of(part))
        bias: Any = self[-1].bias
        found = None if bias is None else bias.detach().to("cpu", torch.float64)
        return Whole(dataclasses.replace(piece, bias=bias is not None), weight, found, self.pieces)


def _kernel(part: Any) -> Tensor:
    """Return the weight as `(outputs, inputs, height, width)` in float64, without groups."""
    weight = part.weight.detach().to("cpu", torch.float64)
    if weight.dim() == 2:
        return weight[:, :, None, None]
    if part.groups == 1:
        return weight
    full = weight.new_zeros(part.out_channels, part.in_channels, *weight.shape[2:])
    outs, ins = part.out_channels // part.groups, part.in_channels // part.groups
    for group in range(part.groups):
        rows, columns = slice(group * outs, (group + 1) * outs), slice(group * ins, (group + 1) * ins)
        full[rows, columns] = weight[rows]
    return full


def _joined(first: Tensor, a: Piece, second: Tensor, b: Piece) -> tuple[Tensor, Piece]:
    """Return the kernel and the structure of `b` after `a`; along each axis at most one of the two is wider than 1."""
    weight = torch.einsum("omyx,mijk->oiyjxk", second, first)
    height, width = weight.shape[2] * weight.shape[3], weight.shape[4] * weight.shape[5]
    weight = weight.reshape(weight.shape[0], weight.shape[1], height, width)
    kernel: Pair = (height, width)
    wider = [b if k > 1 else a for k in b.kernel]
    joined = Piece(
        a.kind,
        a.inputs,
        b.outputs,
        kernel,
        (a.stride[0] * b.stride[0], a.stride[1] * b.stride[1]),
        (a.padding[0] + b.padding[0], a.padding[1] + b.padding[1]),
        (wider[0].dilation[0], wider[1].dilation[1]) if kernel != ONE else ONE,
        padding_mode=b.padding_mode if b.padding != (0, 0) else a.padding_mode,
    )
    return weight, joined
