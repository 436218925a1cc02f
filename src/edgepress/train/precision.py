"""Choose precision and memory layout of a training by a short measurement on this machine.

BF16 nearly doubles the speed of residual networks on CPUs with AVX512-BF16 or AMX and slows some depthwise convolutions
down, so no rule replaces the stopwatch. `mixed` is BF16 with the depthwise convolutions left in FP32. The choice is
kept per machine: a resumed training must go on as it began.
"""

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from edgepress.core.files import write_json
from edgepress.core.inputs import InputSpec
from edgepress.train.passes import Call, convolutions, faster, other_passes

SECONDS = 2.0
"""How long the measurement of all candidates takes."""
SLOW = 1.5
"""A precision that was asked for is slow where FP32 is so many times as fast: BF16 is on CPUs without AVX512-BF16."""

NARROW = 8

Arithmetic = Literal["fp32", "bf16", "mixed"]
Precision = Literal["auto", "fp32", "bf16", "mixed"]


@dataclass(frozen=True)
class Mode:
    """How the arithmetic of a training is done; `speed` is the measured images per second, 0 where it was given.

    `passes` names convolutions that are faster done another way (see `train.passes`). `fp32_speed` is that of
    FP32 where another precision was asked for and is slow, else 0.
    """

    precision: Arithmetic
    channels_last: bool
    speed: float = 0.0
    passes: dict[str, str] = field(default_factory=dict[str, str], hash=False)
    fp32_speed: float = 0.0

    @contextlib.contextmanager
    def autocast(self, device: torch.device) -> Iterator[None]:
        """Run the block in this precision."""
        enabled = self.precision != "fp32"
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled), other_passes(self.passes):
            yield

    @contextlib.contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Bring `module` into this memory layout, in place, and keep its depthwise convolutions in FP32 for the block
        where the precision is mixed."""
        module.to(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)
        hooks = [hook for conv in depthwise(module) for hook in _in_fp32(conv)] if self.precision == "mixed" else []
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def place(self, images: torch.Tensor) -> torch.Tensor:
        """Return `images` in this memory layout."""
        return images.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def choose(module: nn.Module, spec: InputSpec, batch: int, asked: Precision, device: torch.device, cache: Path) -> Mode:
    """Return the fastest mode for training `module`, measured for about two seconds and up to five for the passes of
    its convolutions, or the kept earlier choice."""
    path = cache / "precision" / f"{_fingerprint(module, spec, batch, asked, device)}.json"
    if path.exists():
        return kept(path)
    trial = copy.deepcopy(module).to(device).train()
    calls = _convolutions(trial, spec, batch, device)
    if device.type == "cpu" and any(_overflows(call) for call in calls):
        candidates = [Mode("fp32" if asked == "auto" else asked, False)]
    elif asked == "auto":
        candidates = [Mode("fp32", True), Mode("bf16", True), Mode("fp32", False)]
        candidates += [Mode("mixed", True)] if depthwise(module) else []
    else:
        candidates = [Mode(asked, True), Mode(asked, False)]
    if _has_bf16(device) and any(call.alone for call in calls):  # in BF16, their plain gradients would decide
        candidates = [with_passes(mode, trial, spec, batch, device, "owx") for mode in candidates]
    beside = [Mode("fp32", candidates[0].channels_last)] if asked in ("bf16", "mixed") and device.type == "cpu" else []
    seconds = SECONDS / len([*candidates, *beside])
    timed = [_timed(module, spec, batch, mode, device, seconds) for mode in (*candidates, *beside)]
    best = max(timed[: len(candidates)], key=_speed)
    if beside and timed[-1].speed > SLOW * best.speed:
        best = replace(best, fp32_speed=timed[-1].speed)
    if not best.passes:
        best = with_passes(best, trial, spec, batch, device, "owx")
    write_json(path, asdict(best), first=True)
    return kept(path)


def kept(path: Path) -> Mode:
    """Return the choice in a file, which may be another process's that measured at the same time."""
    return Mode(**json.loads(path.read_text()))


def _convolutions(module: nn.Module, spec: InputSpec, batch: int, device: torch.device) -> list[Call]:
    images = torch.rand((batch, *spec.shape), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return convolutions(lambda: module(images))


def with_passes(mode: Mode, module: nn.Module, spec: InputSpec, batch: int, device: torch.device, passes: str) -> Mode:
    """Return `mode` with the convolutions of `module` that are faster another way in these `passes`; a question of
    processors, and of BF16 only. In training mode the statistics of `module` move."""
    if device.type != "cpu" or mode.precision == "fp32" or not mode.channels_last:
        return mode
    images = mode.place(torch.rand((batch, *spec.shape), generator=torch.Generator().manual_seed(0)))
    with mode.applied(module), torch.random.fork_rng(devices=[]), mode.autocast(device):
        return replace(mode, passes=faster(lambda: module(images), passes))


def _has_bf16(device: torch.device) -> bool:
    """Return whether the processor multiplies BF16 itself; where it does not, FP32 is faster in any way."""
    able = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(bool(have) and name.endswith("bf16") for name, have in able.items())


def _speed(mode: Mode) -> float:
    return mode.speed


def _timed(module: nn.Module, spec: InputSpec, batch: int, mode: Mode, device: torch.device, seconds: float) -> Mode:
    trial = copy.deepcopy(module).to(device).train()
    # A generator of its own: the measurement must not move the random stream of the training.
    images = mode.place(torch.rand((batch, *spec.shape), generator=torch.Generator().manual_seed(0)).to(device))

    def step() -> None:
        with mode.autocast(device):
            loss = trial(images).float().square().mean()
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with mode.applied(trial), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        step()
        times: list[float] = []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return replace(mode, speed=batch / min(times))


def depthwise(module: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of `module` in which every channel is filtered alone."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]


def _overflows(call: Call) -> bool:
    """Return whether a processor without AVX-512 must not train this convolution in channels-last.

    oneDNN's weight gradient of a strided 1x1 convolution writes past its memory there where it has fewer than eight
    input channels, and the process dies or learns from wrong numbers (uxlfoundation/oneDNN#6035, open with torch 2.14).
    """
    return call.weight.shape[2:] == (1, 1) and max(call.strides) > 1 and call.weight.shape[1] < NARROW


def _in_fp32(conv: nn.Conv2d) -> list[RemovableHandle]:
    device = conv.weight.device.type

    def enter(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        torch.set_autocast_enabled(device, False)
        return tuple(x.float() for x in inputs)

    def leave(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        torch.set_autocast_enabled(device, True)

    return [conv.register_forward_pre_hook(enter), conv.register_forward_hook(leave)]


def _fingerprint(module: nn.Module, spec: InputSpec, batch: int, asked: str, device: torch.device) -> str:
    shapes = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    about = [one.name for one in fields(Mode)]
    facts = (type(module).__name__, str(module), shapes, spec.shape, batch, asked, name, torch.__version__, about)
    return hashlib.sha256(repr((facts, torch.get_num_threads())).encode()).hexdigest()[:16]
