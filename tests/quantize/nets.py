"""Small networks, one for each thing that integer runtimes treat differently, and images to calibrate them on."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgepress.core.artifact import Builder, Model, Signature
from edgepress.core.inputs import InputSpec
from edgepress.quantize.ptq import quantize


def conv(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs))


class Head(nn.Module):
    """Global pooling and a linear layer."""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(nn.Module):
    """A shortcut that subsamples and pads channels (option A)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = conv(3, 8), conv(8, 16, 2), conv(16, 16), Head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.b(F.relu(self.a(x)))
        return self.head(F.relu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))))


class SqueezeExcite(nn.Module):
    """Depthwise convolution, hard-swish, squeeze-and-excite."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = conv(3, 8), conv(8, 8, groups=8)
        self.down, self.up, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depthwise(F.hardswish(self.stem(x))))
        gate = F.hardsigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.head(x * gate)


class Silu(nn.Module):
    """SiLU, ReLU6 and average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(3, 8), conv(8, 8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.avg_pool2d(F.relu6(self.b(F.silu(self.a(x)))), 2))


class PreActivation(nn.Module):
    """Batch norms that no convolution stands before, and dropout; a linear layer without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.conv = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, padding=1),
        )
        self.last, self.head = nn.BatchNorm2d(8), Head(8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv(F.dropout(F.relu(self.norm(x)), 0.1, self.training))
        return self.head(F.relu(self.last(x)))


class Concat(nn.Module):
    """Max-pool, nearest up-sampling and concatenation, outputs per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.low, self.up, self.head = conv(3, 4), conv(4, 8), conv(12, 8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = F.relu(self.top(x))
        low = F.relu(self.low(F.max_pool2d(top, 2)))
        return self.head(F.relu(self.up(torch.cat([F.interpolate(low, size=top.shape[2:]), top], 1))))


class Pooled(nn.Module):
    """A stem before a max-pool, as VGG and ResNet have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = conv(3, 8), conv(8, 8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(F.max_pool2d(F.relu(self.stem(x)), 2))))


class Shuffle(nn.Module):
    """Channel shuffle: split, reshape, transpose; and a pad of values that are not clamped at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.right, self.head = conv(3, 8), conv(4, 4), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.stem(x), (1, 1, 1, 1))
        left, right = x.chunk(2, 1)
        x = torch.cat([left, self.right(right)], 1)
        n, c, h, w = x.shape
        return self.head(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class Padded(nn.Module):
    """A pad of values that are clamped at 0 before a pooling of one row and column less, as NASNet has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.relu(self.stem(x)), (1, 0, 1, 0))
        return self.head(F.max_pool2d(x, 3, 2, 1)[:, :, 1:, 1:])


class Flat(nn.Module):
    """A linear layer over all pixels, as AlexNet and VGG have it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.linear = conv(3, 8, 2), nn.Linear(8 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.stem(x)).flatten(1))


class Gelu(nn.Module):
    """One operation that no integer kernel exists for."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(3, 8), conv(8, 8), Head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.gelu(self.a(x)))))


NETS: dict[str, Callable[[], nn.Module]] = {
    c.__name__: c for c in (Residual, SqueezeExcite, Silu, PreActivation, Concat, Pooled, Shuffle, Padded, Flat, Gelu)
}


def make(name: str, size: int = 8) -> Model:
    """Return the network `name` with seeded weights and batch-norm statistics that are not trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = NETS[name]().eval()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.3)
                part.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                part.running_var.uniform_(0.3, 1)  # type: ignore[union-attr]
    task = "segmentation" if name == "Concat" else "classification"
    spec = InputSpec(size, size, 3, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    return Model(module, Builder(f"quantize.nets:{name}"), Signature(task, spec, ("a", "b", "c", "d")))


def images(count: int = 16, size: int = 8) -> NDArray[np.uint8]:
    """Return images with structure: colored ramps and noise."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, size)[None, None, :, None] * rng.uniform(-120, 120, (count, 1, 1, 3))
    values = rng.uniform(60, 200, (count, 1, 1, 3)) + ramp + rng.normal(0, 15, (count, size, size, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


@cache
def quantized(name: str) -> Model:
    """Return `make(name)` quantized on `images(24)`; shared between tests, not to be changed."""
    return quantize(make(name), images(24))
