"""Starting the processes of one training on this machine, and ending all of them when one ends badly.

What `accelerate launch` and torchrun do as well; those also reach over several machines.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

from edgepress.cli.output import note

LAUNCHED = "EDGEPRESS_LAUNCHED"
PATIENCE = 10.0
"""Seconds for a process to end when it is asked to."""


def launch(command: Sequence[str], count: int, again: str) -> int:
    """Run `command` in `count` connected processes and return the exit code: that of the first that ended badly.

    Only the first process is heard on standard output and standard error, the others where one of them is the first to
    fail. `again` is the command that goes on. When this process ends, by whatever signal, so do those it has started.
    """
    port = free_port()
    children: list[subprocess.Popen[bytes]] = []
    errors: list[IO[bytes]] = []
    try:
        for rank in range(count):
            errors.append(tempfile.TemporaryFile())  # noqa: SIM115  (read when the process has ended)
            # Its standard input is a pipe that nobody writes to; it closes when this process is gone.
            found = environment(rank, count, port)
            out, error = (subprocess.DEVNULL, errors[rank]) if rank else (None, None)
            children.append(subprocess.Popen(command, env=found, stdin=subprocess.PIPE, stdout=out, stderr=error))
        return _watch(children, errors, again)
    except KeyboardInterrupt:  # which all processes of a terminal get
        return _wait(children)
    finally:
        _end(children)
        for file in errors:
            file.close()


def environment(rank: int, count: int, port: str) -> Mapping[str, str]:
    """Return the environment of process `rank` of `count`, in the words of torchrun."""
    threads = max(1, (os.cpu_count() or 1) // count)
    given = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        LAUNCHED: "1",
    }
    return {"OMP_NUM_THREADS": str(threads), **os.environ, **given}


def _watch(children: list["subprocess.Popen[bytes]"], errors: list[IO[bytes]], again: str) -> int:
    """Wait until all have ended well, or one badly; say which and why."""
    while True:
        codes = [child.poll() for child in children]
        # A process that was killed is the reason; what the others then say of lost connections is its consequence.
        bad = sorted((code, rank) for rank, code in enumerate(codes) if code)
        if bad:
            return _failed(*bad[0], len(children), errors, again)
        if all(code == 0 for code in codes):
            return 0
        time.sleep(0.1)


def _failed(code: int, rank: int, count: int, errors: list[IO[bytes]], again: str) -> int:
    if rank and code > 0:
        errors[rank].seek(0)
        sys.stderr.write(errors[rank].read().decode(errors="replace"))
    how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"failed with exit code {code}"
    note(f"Process {rank} of {count} {how}; the others are stopped. Go on with: {again}")
    return code if code > 0 else 1


def _wait(children: list["subprocess.Popen[bytes]"]) -> int:
    for child in children:
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue  # it is ended below
    return 130


def _end(children: list["subprocess.Popen[bytes]"]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin:
            child.stdin.close()


def end_with_launcher() -> None:
    """Let this process end when the one that launched it is gone, however that has ended."""
    if LAUNCHED not in os.environ:
        return

    def wait() -> None:
        while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def free_port() -> str:
    """Return the number of a port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])
