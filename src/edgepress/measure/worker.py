"""`python -m edgepress.measure.worker BUNDLE`: one cell of the matrix, alive while it takes turns with the others.

It reads one JSON object a line from standard input and answers with one on standard output. Whatever a library prints
goes to standard error. What fails is answered as `{"error": ...}`; a crash ends this process and nothing else.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepress.core.artifact import Program
    from edgepress.measure.eager import Eager
    from edgepress.runtime.predictor import EnginePredictor

AT_ONCE = 64
"""Images that are scored between two looks at the clock, where they are not slow."""

PARTS = 30
"""Calls by which the share of pre- and post-processing is measured."""


class Worker:
    """A loaded bundle and what may be asked of it: each public method is a command, its arguments the other fields."""

    def __init__(self, folder: Path, runtime: str, threads: int, batch: int) -> None:
        import numpy as np

        from edgepress.runtime.preprocess import to_input

        self.program, self.predictor = _opened(folder, runtime, threads)
        self.threads = threads
        spec = self.predictor.signature.input
        shape = (batch, spec.height, spec.width, spec.channels)
        self.images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self.inputs = np.ascontiguousarray(to_input(self.images, spec))
        self._outputs: list[NDArray[np.float32]] = []

    def outputs(self, images: str, to: str, seconds: float) -> dict[str, Any]:
        """Write the outputs for the uint8 images of one `.npy` file into another.

        After about `seconds` the answer is how many images are `left`; ask again for those.
        """
        import numpy as np

        given = np.load(images, mmap_mode="r")
        seen, until, pace = sum(map(len, self._outputs)), time.monotonic() + seconds, float("inf")
        while seen < len(given) and (until > time.monotonic() or pace == float("inf")):
            count = AT_ONCE if AT_ONCE * pace < seconds else 1
            began = time.monotonic()
            self._outputs.append(self.predictor(given[seen : seen + count]))
            pace = (time.monotonic() - began) / count
            seen += count
        if seen < len(given):
            return {"left": len(given) - seen}
        results = np.concatenate(self._outputs) if self._outputs else self.predictor(given)
        self._outputs.clear()
        np.save(to, results)
        finite = np.isfinite(results).reshape(len(results), -1).all(axis=1)
        return {"left": 0, "images": len(results), "not_finite": int((~finite).sum())}

    def time(self, calls: int, warmup: int, seconds: float, settle: float = 0.0) -> dict[str, Any]:
        """Time calls on a prepared input; the processor time is that of all threads, warm-up included."""
        from edgepress.measure.timing import time_calls

        run, inputs = self.predictor.run, self.inputs
        began = time.process_time()
        timing = time_calls(lambda: run(inputs), calls, warmup, seconds, settle)
        return {"seconds": timing.seconds.tolist(), "cpu": time.process_time() - began}

    def loop(self, seconds: float) -> dict[str, Any]:
        """Call without pause for `seconds`, while somebody reads an energy counter."""
        run, inputs, calls = self.predictor.run, self.inputs, 0
        began, cpu = time.perf_counter(), time.process_time()
        while calls < 3 or time.perf_counter() - began < seconds:
            run(inputs)
            calls += 1
        return {"calls": calls, "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}

    def parts(self) -> dict[str, Any]:
        """Return the milliseconds of pre-processing, network and post-processing for one batch of decoded images."""
        from edgepress.measure.timing import time_calls
        from edgepress.runtime.preprocess import to_input
        from edgepress.tasks.base import tasks

        signature = self.predictor.signature
        outputs, task = self.predictor.run(self.inputs), tasks.get(signature.task)
        timed = {
            "pre": lambda: to_input(self.images, signature.input),
            "run": lambda: self.predictor.run(self.inputs),
            "post": lambda: task.decode(outputs, signature.labels),
        }
        return {name: time_calls(call, PARTS, 3, 3.0).ms(0.5) for name, call in timed.items()}

    def profile(self) -> dict[str, Any]:
        """Return where the time goes by the engine's own profiler, and what the file holds of each layer."""
        from edgepress.measure.profile import layer_files, profile

        if self.program is None:
            return {"layers": [], "files": []}
        layers = profile(self.program, self.threads, self.inputs[:1])
        return {"layers": layers, "files": layer_files(self.program)}


def _opened(folder: Path, runtime: str, threads: int) -> "tuple[Program | None, EnginePredictor | Eager]":
    """Return the program in `folder` (None where a network lies there) and what runs it: the engine `runtime`, or, if
    that is "", the one the program was made for."""
    from edgepress.measure.cell import EAGER

    if runtime == EAGER:
        from edgepress.measure.eager import Eager

        return None, Eager(folder, threads)
    from edgepress.runtime.bundle import read_bundle
    from edgepress.runtime.predictor import EnginePredictor

    program = read_bundle(folder)
    if runtime:
        program = replace(program, runtime=runtime)
    return program, EnginePredictor(program, threads)


def main(arguments: list[str] | None = None) -> None:
    """Load, report, and serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m edgepress.measure.worker", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runtime", default="", help="the engine, where it is not the bundle's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--since", type=int, default=0, help="time.monotonic_ns() at which the process was started")
    given = parser.parse_args(arguments)
    started = given.since or time.monotonic_ns()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to standard output as they like

    from edgepress.core.errors import EdgepressError
    from edgepress.measure.fresh import peak_rss_bytes
    from edgepress.measure.timing import pinned

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        with pinned(given.threads) as cpus:
            worker = Worker(given.bundle, given.runtime, given.threads, given.batch)
            loaded = time.monotonic_ns()
            worker.predictor.run(worker.inputs)
            answered = time.monotonic_ns()
            answer(
                {
                    "load": (loaded - started) / 1e6,
                    "first_prediction": (answered - started) / 1e6,
                    "peak_rss": peak_rss_bytes() / 1e6,
                    "pinned": list(cpus),
                }
            )
            for line in sys.stdin:
                asked = json.loads(line)
                answer(getattr(worker, asked.pop("do"))(**asked))
    except EdgepressError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    main()
