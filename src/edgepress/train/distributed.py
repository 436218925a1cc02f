"""Several processes under Hugging Face Accelerate, and what makes them compute what one process would.

Accelerate reads the environment that its own launcher, torchrun or `edgepress run --processes` has set, chooses device
and backend (NCCL on GPUs, gloo on CPUs) and connects the processes. The loop stays ours: gradients are added up in one
piece after the backward pass; batch normalization takes its statistics over the whole batch (torch's SyncBatchNorm does
so on GPUs only); dropout draws its mask for the whole batch and keeps its share of it.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from edgepress.core.errors import MissingExtraError, TrainingError
from edgepress.core.ranks import ALONE, Ranks, processes_started

T = TypeVar("T")

PATIENCE = timedelta(days=30)
"""The others wait while the main process exports or computes a teacher's outputs. Who has died is noticed at once."""


def join() -> Ranks:
    """Return the group that this process was started in; `ALONE` where it was started by itself.

    Raises `MissingExtraError` where Accelerate is not installed.
    """
    if processes_started() < 2:
        return ALONE
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
    except ModuleNotFoundError:
        raise MissingExtraError("training on several processes", "distributed") from None
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes_started()))
    on_cpu = torch.cuda.device_count() < local  # one GPU cannot serve two processes of a group
    with _told(int(os.environ["RANK"]), processes_started()):
        return Group(Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)]))


@contextlib.contextmanager
def _told(index: int, count: int) -> Iterator[None]:
    """Say in our words that the connection is gone: torch reports that as a `RuntimeError`."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise TrainingError(
            f"process {index} of {count} has lost the others ({reason}); the one that ended first says why. "
            "The same command goes on from the last checkpoint, with any number of processes"
        ) from error


class Group(Ranks):
    """The connected processes of one `accelerate.Accelerator`."""

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self.index, self.count = accelerator.process_index, accelerator.num_processes

    @property
    def device(self) -> torch.device:
        """The device that Accelerate has chosen for this process."""
        return self._accelerator.device

    def agreed(self, make: Callable[[], T]) -> T:
        """Return what `make` returns in the main process (plain values), which alone calls it."""
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [make() if self.main else None]
        with _told(self.index, self.count):
            return broadcast_object_list(found)[0]

    def wait(self) -> None:
        """Wait until every process has come here."""
        with _told(self.index, self.count):
            self._accelerator.wait_for_everyone()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do the block before the others do it."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def bounds(self, total: int) -> list[int]:
        """Return where the shares of `total` rows begin, and the end of the last."""
        return [min(k * (total // self.count) + min(k, total % self.count), total) for k in range(self.count + 1)]

    def share(self, rows: Tensor) -> Tensor:
        """Return this process's part of what has one row for each image of a batch; raise `TrainingError` where there
        are fewer images than processes."""
        total = len(rows)
        if total < self.count:
            raise TrainingError(f"a batch of {total} cannot be shared by {self.count} processes; raise `batch`")
        begin, end = self.bounds(total)[self.index : self.index + 2]
        return rows[begin:end]

    def gather(self, rows: Tensor, total: int) -> Tensor:
        """Return the rows of all processes, `total` of them; the gradient of its own rows comes back to each."""
        return _Gather.apply(rows, self, total)  # pyright: ignore[reportReturnType]

    def collected(self, rows: Tensor, total: int) -> Tensor:
        """Return the rows of all processes, without a gradient."""
        sizes = [end - begin for begin, end in pairwise(self.bounds(total))]
        padded = rows.detach().to(self.device).contiguous()
        if len(padded) < max(sizes):
            padded = torch.cat([padded, padded[:1].expand(max(sizes) - len(padded), *padded.shape[1:])])
        with _told(self.index, self.count):
            found = self._accelerator.gather(padded).view(self.count, max(sizes), *rows.shape[1:])
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)]).to(rows.device)

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Add up each tensor over all processes, in place."""
        parts = list(tensors)
        if not parts:
            return
        flat = torch.cat([part.detach().flatten() for part in parts])
        with _told(self.index, self.count):
            flat = self._accelerator.reduce(flat, "sum")
        for part, added in zip(parts, flat.split([part.numel() for part in parts]), strict=True):
            part.copy_(added.view(part.shape))

    @torch.no_grad()
    def align(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the main one's values, in place."""
        from accelerate.utils import broadcast

        for part in tensors:
            with _told(self.index, self.count):
                part.copy_(broadcast(part.detach().contiguous()))

    @contextlib.contextmanager
    def whole_batch(self, total: int) -> Iterator[None]:
        """Let a network in the block normalize, and drop out, as if it saw all `total` images of the batch."""
        with _WholeBatch(self, total):
            yield


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Group, total: int) -> Tensor:
        ctx.begin, ctx.count = group.bounds(total)[group.index], len(rows)
        return group.collected(rows, total)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        # Every process computes the same loss of the whole batch, so its own rows have their whole gradient already.
        return grads[0].narrow(0, ctx.begin, ctx.count), None, None


class _WholeBatch(TorchFunctionMode):
    """Replaces batch normalization and dropout, wherever a network calls them."""

    def __init__(self, group: Group, total: int) -> None:
        super().__init__()
        self.group, self.total = group, total

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return self._normalized(*args, **kwargs)
        if func in (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d):
            return self._dropped(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _normalized(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        mean, var, count = _statistics(x, self.group)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)
        return _Normalize.apply(x, weight, bias, mean, (var + eps).rsqrt(), count, self.group)  # pyright: ignore

    def _dropped(self, func: Any, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        begin, end = self.group.bounds(self.total)[self.group.index : self.group.index + 2]
        each, rest = divmod(len(x), end - begin)  # rows per image: more than one where places were made rows
        if not training or not p or p == 1 or rest:
            return func(x, p, training, inplace)
        whole = (each * self.total, *x.shape[1:])
        channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        ones = torch.ones((), dtype=x.dtype, device=x.device).expand(whole).contiguous(memory_format=layout)
        mask = func(ones, p, True)[each * begin : each * end]
        return x.mul_(mask) if inplace else x * mask


def _statistics(x: Tensor, group: Group) -> tuple[Tensor, Tensor, float]:
    """Return mean and biased variance of every channel over the batches of all processes, and the number of values."""
    with torch.no_grad():
        dims = [dim for dim in range(x.ndim) if dim != 1]
        var, mean = torch.var_mean(x.float(), dims, correction=0)
        own = torch.stack([mean, var, torch.full_like(mean, x.numel() / x.shape[1])])
        means, variances, counts = group.collected(own[None], group.count).unbind(1)
        total = counts.sum(0)
        mean = (means * counts).sum(0) / total
        var = ((variances + (means - mean).square()) * counts).sum(0) / total
        return mean, var, float(total[0])


class _Normalize(torch.autograd.Function):
    """`(x - mean) / std * weight + bias` with statistics of all processes, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        scale: Tensor,
        count: float,
        group: Group,
    ) -> Tensor:
        shape = (1, -1, *(1,) * (x.ndim - 2))
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.count, ctx.group, ctx.shape = count, group, shape
        factor = scale if weight is None else scale * weight
        offset = -mean * factor if bias is None else bias - mean * factor
        return (x * factor.view(shape) + offset.view(shape)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight, mean, scale = ctx.saved_tensors
        dims, shape = [dim for dim in range(x.ndim) if dim != 1], ctx.shape
        grad = grads[0].float()
        normal = (x.float() - mean.view(shape)) * scale.view(shape)
        own = torch.stack([grad.sum(dims), (grad * normal).sum(dims)])
        both = own.clone()
        ctx.group.add([both])
        shift, slope = both[0].view(shape) / ctx.count, both[1].view(shape) / ctx.count
        factor = (scale if weight is None else scale * weight).view(shape)
        back = (factor * (grad - shift - normal * slope)).to(x.dtype)
        # Those of weight and bias are of the own share; they are added up with all other gradients.
        _, to_weight, to_bias = ctx.needs_input_grad[:3]
        return back, own[1] if to_weight else None, own[0] if to_bias else None, None, None, None, None
