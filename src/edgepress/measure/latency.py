"""How fast: the time of one call on an input that is already prepared, and images a second."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Artifact, Model, Program
from edgepress.measure.base import Measure, MeasureContext, measures, split_of
from edgepress.measure.rows import Row
from edgepress.measure.timing import WIDE, pinned, time_calls


@measures.register("latency")
@dataclass(frozen=True)
class Latency(Measure):
    """`latency` (its median, with p50 and p99), `latency_p90`, `throughput` and `latency_spread`.

    A program is timed in its own engine, a model in eager PyTorch, both on real images of the test split, prepared
    beforehand, with `threads` threads pinned to as many physical cores. `rounds` calls are timed after `warmup` untimed
    ones, fewer where `seconds` are over before. With more than one thread or image the metrics carry a suffix
    (`latency_t2_b8`), so that only like is compared with like.
    """

    threads: int = 1
    batch: int = 1
    rounds: int = 300
    warmup: int = 20
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if min(self.threads, self.batch, self.rounds) < 1 or self.warmup < 0 or self.seconds <= 0:
            raise ValueError("threads, batch and rounds must be at least 1, warmup at least 0, seconds above 0")

    def __call__(self, artifact: Artifact, ctx: MeasureContext) -> list[Row]:
        """Return the four rows; say so where the machine was too restless to trust them."""
        images = self._images(artifact, ctx)
        with pinned(self.threads) as cpus, _caller(artifact, images, self.threads) as (call, device):
            timing = time_calls(call, self.rounds, self.warmup, self.seconds)
        if not cpus:
            ctx.progress.say(f"{ctx.label}: {self.threads} threads could not be pinned to as many physical cores")
        if timing.spread > WIDE:
            ctx.progress.say(
                f"{ctx.label}: latency varied by {timing.spread:.0f} % of its median (p10 to p90); the machine is busy "
                "or changes its frequency, so do not trust small differences"
            )
        suffix = self.suffix()
        about = {"n": timing.n, "split": "test", "device": device, "threads": self.threads, "batch": self.batch}
        quantiles = {"p50": timing.ms(0.5), "p99": timing.ms(0.99)}
        return [
            ctx.row(artifact, f"latency{suffix}", timing.ms(0.5), "ms", "lower", **about, **quantiles),
            ctx.row(artifact, f"latency_p90{suffix}", timing.ms(0.9), "ms", "lower", **about),
            ctx.row(artifact, f"throughput{suffix}", timing.per_second(self.batch), "images/s", "higher", **about),
            ctx.row(artifact, f"latency_spread{suffix}", timing.spread, "%", "lower", **about),
        ]

    def suffix(self) -> str:
        """Return what follows the names of the metrics: "" for one thread and one image, else like "_t2_b8"."""
        threads = f"_t{self.threads}" if self.threads > 1 else ""
        return threads + (f"_b{self.batch}" if self.batch > 1 else "")

    def _images(self, artifact: Artifact, ctx: MeasureContext) -> NDArray[np.float32]:
        """Return one batch as float32 NCHW, images repeated where the split has too few."""
        from edgepress.runtime.preprocess import to_input

        split = split_of(ctx.data, "test")
        images, _ = split.read(np.arange(min(self.batch, len(split)), dtype=np.int64))
        images = np.resize(images, (self.batch, *images.shape[1:]))
        return np.ascontiguousarray(to_input(images, artifact.signature.input))


@contextlib.contextmanager
def _caller(
    artifact: Artifact, inputs: NDArray[np.float32], threads: int
) -> Iterator[tuple[Callable[[], object], str]]:
    """Yield a function that runs the artifact once on `inputs`, and the device it runs on."""
    if isinstance(artifact, Program):
        from edgepress.runtime.predictor import EnginePredictor

        run = EnginePredictor(artifact, threads=threads).run
        yield lambda: run(inputs), "cpu"
    else:
        with _eager(artifact, inputs, threads) as found:
            yield found


@contextlib.contextmanager
def _eager(model: Model, inputs: NDArray[np.float32], threads: int) -> Iterator[tuple[Callable[[], object], str]]:
    import torch

    module = model.module
    state = next(iter(module.state_dict().values()), torch.empty(0))
    batch = torch.from_numpy(inputs).to(state.device)
    on_gpu = state.device.type == "cuda"
    modes = [(part, part.training) for part in module.modules()]
    before = torch.get_num_threads()

    def call() -> None:
        module(batch)
        if on_gpu:
            torch.cuda.synchronize()

    torch.set_num_threads(threads)
    module.eval()
    try:
        with torch.inference_mode():
            yield call, state.device.type
    finally:
        torch.set_num_threads(before)
        for part, training in modes:
            part.training = training
