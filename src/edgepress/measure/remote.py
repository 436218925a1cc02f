"""A matrix on another machine: the base install and the files go there over ssh, records come back as they are made.

The plain OpenSSH client does the talking, so whatever `~/.ssh/config` says holds. `EDGEPRESS_SSH` may hold another
command for it ("ssh -p 2222"). A link that breaks is taken up again: files go on at the byte they had reached, the
matrix at the record.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from edgepress.core.errors import ConfigError, EdgepressError
from edgepress.core.files import sha256, write_bytes
from edgepress.core.stage import Progress
from edgepress.measure.bench import Bench
from edgepress.measure.cell import EAGER
from edgepress.measure.matrix import FILES, SEEN, TARGETS, Judge, Settings, append
from edgepress.measure.wheel import wheel_name, write_wheel
from edgepress.runtime.batches import last_line

T = TypeVar("T")
OPTIONS = (
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
)
LOST = 255
"""What ssh exits with where the link failed; any other code is that of the command."""

ATTEMPTS, PAUSE, LONGEST = 10, 1.0, 30.0
"""So often is one step tried again where the link breaks, after seconds that double from `PAUSE`."""

ENGINES = {"openvino": "openvino", "litert": "ai-edge-litert", "ncnn": "ncnn"}
"""What has to be installed to run files of an engine; converters stay here."""

BUSY, PATIENCE = 8, 1200.0
"""What `there` exits with while the process before it has not noticed that its link is gone; how many seconds that may
take: where a network just vanishes, TCP gives up after a quarter of an hour."""

JOB = "job.json"
"""The file that says what to measure."""


class BusyError(ConnectionError):
    """The process of a broken link is still at it."""


class LinkError(EdgepressError):
    """The other machine cannot be reached, or does not do what it is asked."""


class Link:
    """An ssh destination: `user@board`, or `ssh://user@board:2222`."""

    def __init__(self, to: str) -> None:
        if not re.fullmatch(r"(ssh://)?([\w.-]+@)?[\w.:\[\]%-]+", to) or to.startswith("-"):
            raise ConfigError(
                f"--on {to!r}: an ssh destination is wanted, such as pi@192.168.1.7 or ssh://pi@board:2222"
            )
        self.to = to
        self._command = [*shlex.split(os.environ.get("EDGEPRESS_SSH", "ssh")), *OPTIONS, to, "--"]

    def open(self, words: str, said: Any, given: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start the shell command `words` over there; `said` takes its standard error, `given` is its input."""
        try:
            return subprocess.Popen([*self._command, words], stdin=given, stdout=subprocess.PIPE, stderr=said)
        except FileNotFoundError:
            raise LinkError(f"{self._command[0]!r} is not installed: --on needs an ssh client") from None

    def run(self, words: str) -> str:
        """Return what the shell command prints. Raises `ConnectionError` where the link is lost, else `LinkError`."""
        process = self.open(words, subprocess.PIPE)
        out, err = process.communicate()
        self.check(process.returncode, err.decode(errors="replace"))
        return out.decode(errors="replace")

    def check(self, code: int, said: str) -> None:
        """Raise `ConnectionError` or `LinkError` unless `code` is 0."""
        if code == LOST:
            raise ConnectionError(last_line(said) or "no reason given")
        if code:
            raise LinkError(f"{self.to}: {last_line(said) or f'exit code {code}'}")

    def send(self, files: Mapping[str, Path], to: str, python: str = "python3") -> int:
        """Copy `files` to the paths below the folder `to`, as far as they are not there; return the bytes sent."""
        source = (Path(__file__).parent / "receive.py").read_text("utf-8")
        command = f"{python} -c {shlex.quote(source)} {shlex.quote(to)}"
        with tempfile.TemporaryFile() as said, self.open(command, said, subprocess.PIPE) as process:
            sent = -1
            try:
                sent = _deliver(process, files)
            except BrokenPipeError:
                sent = 0  # what went wrong is told by the exit code
            finally:
                if sent < 0:
                    process.kill()
                with contextlib.suppress(BrokenPipeError):
                    assert process.stdin is not None
                    process.stdin.close()
            code = process.wait()
            said.seek(0)
            self.check(code, said.read().decode(errors="replace"))
        return sent


def _deliver(process: subprocess.Popen[bytes], files: Mapping[str, Path]) -> int:
    """Talk to `receive` in `process`; return the bytes that it lacked."""
    assert process.stdin is not None and process.stdout is not None
    for name, path in files.items():
        process.stdin.write(json.dumps(_about(name, path)).encode() + b"\n")
    process.stdin.write(b"\n")
    process.stdin.flush()
    begins: list[int] = json.loads(process.stdout.readline() or "[]")
    sent = 0
    for path, begin in zip(files.values(), begins, strict=False):
        with open(path, "rb") as file:
            file.seek(begin)
            while block := file.read(1 << 16):
                process.stdin.write(block)
                sent += len(block)
    process.stdin.flush()
    return sent


def run_there(
    to: str, bench: Bench, judge: Judge | None, settings: Settings, store: Path, progress: Progress,
    environment: dict[str, str], python: str = "",
) -> None:  # fmt: skip
    """Measure the cells of `bench` on the machine `to`; their records end up in `store`, what that machine is in
    `environment`, as soon as it has said so.

    `python` is an interpreter there that has numpy and the engines; without it an environment is made. Raises
    `LinkError` where the machine cannot be reached or cannot do it.
    """
    link, files = Link(to), job_files(bench, judge, settings, store)
    folder = f".cache/edgepress/{store.absolute().name}-{job_key(files)}"
    sent = patiently(lambda: link.send(files, folder, python or "python3"), progress, first=True)
    progress.say(f"{to}: {sent / 1e6:.1f} MB copied")
    python = patiently(lambda: install(link, bench, folder, python, progress), progress)
    command = f"cd {shlex.quote(folder)} && PYTHONPATH=site exec {python} -m edgepress.measure.there ."
    patiently(lambda: _listen(link, command, store, progress, environment), progress)


def job_key(files: Mapping[str, Path]) -> str:
    """Return what tells the records of these files and settings from those of others, whatever budget they are held
    against: they lie in a folder of that name, and another matrix in another."""
    job = json.loads(files[JOB].read_bytes())
    parts = [[name, sha256(path)] for name, path in files.items() if name != JOB and not name.endswith(".whl")]
    told = json.dumps([{key: value for key, value in job.items() if key != "budget"}, parts], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def job_files(bench: Bench, judge: Judge | None, settings: Settings, store: Path) -> dict[str, Path]:
    """Write down what is to be measured; return every file that has to be there, by its path there."""
    files: dict[str, Path] = {}
    cells: list[dict[str, Any]] = []
    for cell in bench.cells:
        place = None
        if cell.folder is not None:
            place = f"files/{cell.artifact}-{cell.kind}-{cell.precision}"
            wanted = ("structure.json", "weights.safetensors") if cell.runtime == EAGER else None
            kept = [path for path in cell.folder.iterdir() if path.is_file() and (not wanted or path.name in wanted)]
            files |= {f"{place}/{path.name}": path for path in sorted(kept)}
        cells.append({**asdict(cell), "folder": place})
    about = None
    if judge is not None:
        import numpy as np

        from edgepress.core.files import write_array

        about = {"task": judge.task, "classes": judge.classes, "layers": judge.layers, "references": {}}
        for number, (name, outputs) in enumerate(judge.references.items()):
            write_array(store / "there" / f"reference-{number}.npy", np.asarray(outputs))
            about["references"][name] = f"reference-{number}.npy"
            files[f"reference-{number}.npy"] = store / "there" / f"reference-{number}.npy"
        files |= {name: store / name for name in (SEEN, TARGETS)}
    job = {"cells": cells, "settings": asdict(settings), "judge": about, "budget": asdict(bench.budget)}
    write_bytes(store / "there" / JOB, json.dumps(job).encode())
    wheel = write_wheel(store / "there")
    return {JOB: store / "there" / JOB, wheel.name: wheel, **files}


def install(link: Link, bench: Bench, folder: str, python: str, progress: Progress) -> str:
    """Make the base install and the engines that the cells need, unless `python` has all; return the interpreter.

    An engine that cannot be installed there leaves its cells empty.
    """
    wheel = wheel_name()
    here = f"cd {shlex.quote(folder)} && "
    if python:
        link.run(f"{here}rm -rf site && {python} -m zipfile -e {shlex.quote(wheel)} site")
        return python
    made = "env/bin/python"
    progress.say(f"{link.to}: installing")
    link.run(f"{here}(test -x {made} || python3 -m venv env) && {made} -m pip install --quiet {shlex.quote(wheel)}")
    for name in dict.fromkeys(cell.runtime for cell in bench.cells if cell.folder is not None):
        if name in ENGINES:
            try:
                link.run(f"{here}{made} -m pip install --quiet {ENGINES[name]}")
            except LinkError as error:
                progress.say(f"{name} cannot be installed there: {error}")
    return made


def patiently(work: Callable[[], T], progress: Progress, first: bool = False) -> T:
    """Return what `work` does, again where the link breaks; the `first` time a machine must answer at once."""
    pause, attempt, until = PAUSE, 1, float("inf")
    while True:
        try:
            return work()
        except ConnectionError as error:
            if first and attempt == 1 and _hopeless(str(error)):
                raise LinkError(f"no connection: {error}; try the same with `ssh` by hand") from None
            if isinstance(error, BusyError):
                until = min(until, time.monotonic() + PATIENCE)
                if time.monotonic() > until:
                    raise LinkError(f"after {PATIENCE / 60:.0f} minutes: {error}; the same command goes on") from None
                progress.say(f"waiting ({error}); again in {pause:g} s")
            else:
                if attempt == ATTEMPTS:
                    raise LinkError(f"the link broke {ATTEMPTS} times: {error}; the same command goes on") from None
                progress.say(f"the link broke ({error}); again in {pause:g} s")
                attempt, until = attempt + 1, float("inf")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)


def _listen(link: Link, command: str, store: Path, progress: Progress, environment: dict[str, str]) -> None:
    """Run the matrix there and write down what it tells. Raises `ConnectionError` where the link breaks before the end,
    or the process of a broken link is still at it."""
    with tempfile.TemporaryFile() as said:
        process = link.open(command, said)
        assert process.stdout is not None
        done = False
        try:
            for line in process.stdout:
                word = json.loads(line) if line.endswith(b"\n") else {}
                done = done or bool(word.get("done"))
                _heard(word, store, progress, environment)
        finally:
            process.stdout.close()
            if process.poll() is None and not done:
                process.terminate()
            code = process.wait()
        said.seek(0)
        text = said.read().decode(errors="replace")
        if done:
            return
        if code == BUSY:
            raise BusyError(last_line(text))
        link.check(code, text)
        raise ConnectionError("the other end fell silent")


def _heard(word: dict[str, Any], store: Path, progress: Progress, environment: dict[str, str]) -> None:
    if "begin" in word:  # everything is told again
        environment.update(word["begin"])
        for name in FILES:
            (store / f"{name}.jsonl").unlink(missing_ok=True)
    for name in FILES:
        if name in word:
            append(store / f"{name}.jsonl", word[name])
            progress.status(word[name]["cell"])
    if "said" in word:
        progress.say(word["said"])


def _about(name: str, path: Path) -> dict[str, Any]:
    return {"path": name, "size": path.stat().st_size, "sha256": sha256(path)}


def _hopeless(reason: str) -> bool:
    """Return whether ssh gave a reason that time does not mend."""
    signs = ("permission denied", "could not resolve", "host key", "no route", "refused", "bad configuration")
    return any(sign in reason.lower() for sign in signs)
