"""A cell of the matrix as its own process: a crash, a hang or a refusal of one engine is an answer, not the end."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from edgepress.core.errors import EdgepressError
from edgepress.runtime.batches import last_line
from edgepress.runtime.engine import engines

EAGER = "torch"
"""The runtime of a cell that is no file but the network in PyTorch, which files are held against."""


class CellError(EdgepressError):
    """Why a cell stays empty, in one line."""


@dataclass(frozen=True)
class Cell:
    """One measurement to be made: the bundle in `folder` on so many threads and images.

    `artifact` names the network and `kind` the file ("openvino-bf16"); `reason` says why there is no file, if so. The
    runtime `EAGER` stands for a saved network in `folder`, run by PyTorch as it is.
    """

    artifact: str
    kind: str
    runtime: str
    precision: str
    threads: int
    batch: int
    folder: Path | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The cell in a few words, unique in its matrix: "student openvino bf16 t2 b8"."""
        return f"{self.artifact} {self.runtime} {self.precision} t{self.threads} b{self.batch}"

    @property
    def device(self) -> str:
        """What the engine computes on: "cpu" or "cuda"."""
        return engines.get(self.runtime).device if self.runtime in engines else "cpu"


class Helper:
    """A process that answers every line of JSON it is given with another. Use it in a `with` block.

    `ask` raises `CellError` with the reason where the process crashed, hung for `limit` seconds or refused.
    """

    hint: ClassVar[str] = ""
    """What to do about one that hung."""

    def __init__(self, module: str, words: Sequence[str], limit: float, threads: int = 1) -> None:
        self._limit = limit
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        self._rest = b""
        quiet = {"OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **quiet},
            start_new_session=True,  # Ctrl-C is for the matrix, which ends its cells itself
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CellError(self._ended()) from None
        return self._answer(self._limit)

    @property
    def over(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _answer(self, limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        handle, until = self._process.stdout.fileno(), time.monotonic() + limit
        while b"\n" not in self._rest:
            ready, _, _ = select.select([handle], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self._process.kill()
                self._process.wait()  # so that `over` knows
                raise CellError(f"gave no answer in {limit:g} s and was ended{self.hint}")
            part = os.read(handle, 1 << 20)
            if not part:
                raise CellError(self._ended())
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CellError(" ".join(str(answer["error"]).split()))
        return answer

    def _ended(self) -> str:
        """Return how the process ended, and the last thing it said."""
        code = self._process.wait()
        self._said.seek(0)
        last, how = last_line(self._said.read().decode(errors="replace")), how_it_ended(code)
        return f"{how}: {last}" if last else how


class CellProcess(Helper):
    """The process of one cell, which answers what `worker.Worker` does; `started` holds its load time, first prediction
    and memory."""

    hint = "; --limit allows more"

    def __init__(self, cell: Cell, limit: float) -> None:
        if cell.folder is None:
            raise CellError(cell.reason or "there is no file")
        words = [str(cell.folder), "--runtime", cell.runtime, "--threads", str(cell.threads)]
        words += ["--batch", str(cell.batch), "--since", str(time.monotonic_ns())]
        super().__init__("edgepress.measure.worker", words, limit, cell.threads)
        with contextlib.ExitStack() as stack:
            stack.callback(self.close)
            self.started = self._answer(limit)
            stack.pop_all()


def how_it_ended(code: int) -> str:
    """Return an exit code in words: "crashed with SIGSEGV"."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"crashed with {signal.Signals(-code).name}"
    except ValueError:
        return f"crashed with signal {-code}"
