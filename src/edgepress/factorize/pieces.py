"""A dense layer as numbers, and the thinner layers that may take its place, without theirs: what each would cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgepress.cost.shapes import LayerTime, Shape

Pair = tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
ONE, NONE = (1, 1), (0, 0)


@dataclass(frozen=True)
class Piece:
    """One layer of a chain: all that decides its structure. A linear layer has the kernel `(1, 1)`."""

    kind: Literal["linear", "conv"]
    inputs: int
    outputs: int
    kernel: Pair = ONE
    stride: Pair = ONE
    padding: Pair = NONE
    dilation: Pair = ONE
    groups: int = 1
    bias: bool = False
    padding_mode: PaddingMode = "zeros"

    def make(self) -> nn.Module:
        """Return a layer of this structure."""
        if self.kind == "linear":
            return nn.Linear(self.inputs, self.outputs, self.bias)
        return nn.Conv2d(
            self.inputs,
            self.outputs,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.bias,
            self.padding_mode,
        )

    def params(self) -> int:
        """Return the parameters."""
        return self.outputs * (self.inputs // self.groups * self.kernel[0] * self.kernel[1] + self.bias)

    def after(self, size: Pair) -> Pair:
        """Return height and width of the output for an input of `size` (a linear layer keeps its rows)."""
        if self.kind == "linear":
            return size
        steps = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((s + 2 * p - d * (k - 1) - 1) // step + 1 for s, k, step, p, d in steps)
        return height, width

    def macs(self, size: Pair) -> int:
        """Return the multiply-accumulate operations for an input of `size`."""
        height, width = self.after(size)
        return height * width * (self.params() - self.outputs * self.bias)

    def shape(self, size: Pair) -> Shape:
        """Return what the table of layer times knows this layer by."""
        if self.kind == "linear":
            return Shape("linear", size[0] * size[1], 1)
        depthwise = self.groups == self.inputs == self.outputs != 1
        grouping = "full" if self.groups == 1 else "depthwise" if depthwise else str(self.groups)
        return Shape("conv", *size, self.kernel, self.stride, self.padding, self.dilation, grouping)


@dataclass(frozen=True)
class Whole:
    """A dense layer. `weight` is `(outputs, inputs, height, width)` in float64, of a linear layer with a 1x1 kernel;
    `chain` is what stands there now: the layer itself, or the factors of an earlier decomposition."""

    piece: Piece
    weight: Tensor
    bias: Tensor | None
    chain: tuple[Piece, ...]

    @property
    def pointwise(self) -> bool:
        """Whether it mixes channels only."""
        return self.piece.kernel == ONE


def cost(kind: str, chain: Sequence[Piece], size: Pair, calls: int = 1, time: LayerTime | None = None) -> float:
    """Return what `chain` takes of `kind` (see `cost.budget.Budget`) on an input of `size`, called `calls` times."""
    total = 0.0
    for piece in chain:
        if kind == "macs":
            total += piece.macs(size) * calls
        elif kind == "latency_ms":
            assert time is not None
            total += time(piece.shape(size), piece.inputs, piece.outputs) * calls
        else:
            total += piece.params() * (4 if kind == "bytes" else 1)
        size = piece.after(size)
    return total


def piece_of(layer: nn.Module) -> Piece:
    """Return the structure of a linear layer or a convolution with numbers for its padding."""
    part: Any = layer
    bias = part.bias is not None
    if isinstance(layer, nn.Linear):
        return Piece("linear", part.in_features, part.out_features, bias=bias)
    padding = part.padding
    if isinstance(padding, str):
        same = padding == "same"
        padding = [(k - 1) * d // 2 if same else 0 for k, d in zip(part.kernel_size, part.dilation, strict=True)]
    return Piece(
        "conv",
        part.in_channels,
        part.out_channels,
        part.kernel_size,
        part.stride,
        (padding[0], padding[1]),
        part.dilation,
        part.groups,
        bias,
        part.padding_mode,
    )


def read(layer: nn.Module) -> Whole:
    """Return a linear layer or convolution as numbers, on the CPU."""
    part: Any = layer
    weight = part.weight.detach().to("cpu", torch.float64)
    bias = None if part.bias is None else part.bias.detach().to("cpu", torch.float64)
    piece = piece_of(layer)
    return Whole(piece, weight[:, :, None, None] if weight.dim() == 2 else weight, bias, (piece,))
