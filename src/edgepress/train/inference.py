"""The fastest arithmetic for a network that only answers, measured on this machine and kept."""

import copy
import hashlib
import time
from dataclasses import asdict, fields
from pathlib import Path

import torch
from torch import nn

from edgepress.core.files import write_json
from edgepress.core.inputs import InputSpec
from edgepress.train import precision
from edgepress.train.precision import Mode, depthwise, kept, with_passes


def fastest(module: nn.Module, spec: InputSpec, batch: int, device: torch.device, cache: Path) -> Mode:
    """Return the mode in which `module` answers `batch` images the fastest, without gradients: measured for about
    `precision.SECONDS`, or the choice kept in `cache`."""
    shapes = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
    facts = (
        type(module).__name__,
        [one.name for one in fields(Mode)],
        shapes,
        spec.shape,
        batch,
        _machine(device),
        torch.__version__,
        torch.get_num_threads(),
    )
    path = cache / "precision" / f"answer-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
    if path.exists():
        return kept(path)
    candidates = [Mode("fp32", True), Mode("bf16", True), Mode("fp32", False), Mode("bf16", False)]
    candidates += [Mode("mixed", True)] if depthwise(module) else []
    trial = copy.deepcopy(module).to(device).eval()
    seconds = precision.SECONDS / len(candidates)
    best = max((_timed(trial, spec, batch, mode, device, seconds) for mode in candidates), key=_speed)
    with torch.inference_mode():
        best = with_passes(best, trial, spec, batch, device, "o")
    write_json(path, asdict(best), first=True)
    return kept(path)


def _timed(module: nn.Module, spec: InputSpec, batch: int, mode: Mode, device: torch.device, seconds: float) -> Mode:
    images = mode.place(torch.rand((batch, *spec.shape), generator=torch.Generator().manual_seed(0)).to(device))

    def run() -> float:
        start = time.perf_counter()
        module(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    with torch.inference_mode(), mode.applied(module), mode.autocast(device):
        run()  # the first run is slower: memory and kernels are chosen in it
        begin = time.perf_counter()
        times = [run()]
        while time.perf_counter() - begin < seconds:
            times.append(run())
    return Mode(mode.precision, mode.channels_last, batch / min(times))


def _speed(mode: Mode) -> float:
    return mode.speed


def _machine(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
