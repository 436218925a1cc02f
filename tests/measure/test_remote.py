"""A matrix on another machine: copied once, measured there, told as it goes, taken up again where the link breaks.

Where `sshd` is installed a server of the test's own is talked to; elsewhere a stand-in for `ssh` runs the command in an
empty home folder on this machine.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.measure import remote
from edgepress.measure.base import Quiet
from edgepress.measure.bench import Bench
from edgepress.measure.cell import Cell
from edgepress.measure.matrix import Judge, Settings, records
from edgepress.measure.remote import BusyError, Link, LinkError, patiently, run_there
from edgepress.measure.verdict import Budget
from edgepress.measure.wheel import wheel_name, write_wheel
from edgepress.runtime.bundle import save_bundle
from runtime.tiny import classifier

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
STAND_IN = """#!/bin/sh
# ssh OPTIONS DESTINATION -- COMMAND, on this machine; breaks off after so many bytes of input where it is told to.
while [ "$1" != "--" ]; do shift; done
shift
cd "$HOME" || exit 255
if [ -s "$BREAKS" ]; then
  bytes=$(head -n 1 "$BREAKS"); sed -i 1d "$BREAKS"
  if [ "$bytes" = down ]; then echo "ssh: connect to host board: Connection timed out" >&2; exit 255; fi
  dd bs=64k iflag=count_bytes count="$bytes" status=none | sh -c "$1"; exit 255
fi
exec sh -c "$1"
"""


class Said(Quiet):
    """A `Progress` that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Keep `text`."""
        self.lines.append(text)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a board that a stand-in for `ssh` leads to. `breaks` in it says where the link breaks."""
    home, stand_in = tmp_path / "home", tmp_path / "bin" / "ssh"
    home.mkdir()
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    monkeypatch.setenv("EDGEPRESS_SSH", str(stand_in))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BREAKS", str(home / "breaks"))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    return home


def matrix_of(tmp_path: Path) -> tuple[Bench, Judge, Path]:
    """Return a matrix of two cells, one of them without its engine there, what to judge by, and a store."""
    store, spec = tmp_path / "store", InputSpec(8, 8)
    bundle = tmp_path / "bundle"
    save_bundle(classifier(spec, 4.0), bundle)
    cells = (
        Cell("net", "onnxruntime", "onnxruntime", "fp32", 1, 1, bundle),
        Cell("net", "tensorrt", "tensorrt", "fp16", 1, 1, bundle),
        Cell("net", "ncnn", "ncnn", "bf16", 1, 1, None, "ncnn has no Tensor.slice"),
    )
    targets = np.arange(12, dtype=np.int64) % 3
    images = np.zeros((12, 8, 8, 3), np.uint8)
    images[np.arange(12), :, :, targets] = 200
    store.mkdir(exist_ok=True)
    np.save(store / "seen.npy", images)
    np.save(store / "targets.npy", targets)
    judge = Judge(images, targets, "classification", 3, {"net fp32": np.eye(3, dtype=np.float32)[targets]})
    about = Bench.begun("net", "edgepress bench net --on board", "colors", Budget(), "board")
    return about.of(cells, "top1", ("red", "green", "blue")), judge, store


QUICK = Settings(turns=2, calls=30, limit=30.0, energy_seconds=0.05)


def test_the_matrix_is_measured_there_and_told_here(tmp_path: Path, board: Path) -> None:
    bench, judge, store = matrix_of(tmp_path)
    said = Said()
    machine: dict[str, str] = {}
    run_there("pi@board", bench, judge, QUICK, store, said, machine, sys.executable)
    good, absent, unmade = bench.results(store)
    assert good.facts["score"] == 100 and good.facts["parity"] == 100 and len(good.turns) == 2
    assert "not installed" in absent.error or "no NVIDIA" in absent.error
    assert unmade.error == "ncnn has no Tensor.slice"
    assert "machine" in machine and not bench.environment
    (there,) = (board / ".cache/edgepress").glob("store-*")
    assert (there / "site/edgepress/measure/there.py").exists(), "it ran from the wheel that was sent"
    sent = [line for line in said.lines if "copied" in line]
    again = Said()
    turns = (there / "turns.jsonl").read_bytes()
    other = replace(bench, budget=Budget(drop=5.0))
    run_there("pi@board", other, judge, QUICK, store, again, {}, sys.executable)
    assert (there / "turns.jsonl").read_bytes() == turns, "what is complete is told, not measured, again"
    assert len(sent) == 1 and "0.0 MB copied" in "".join(again.lines)
    assert len(records(store / "turns.jsonl")) == 2
    save_bundle(classifier(InputSpec(8, 8), -4.0), tmp_path / "trained again")
    cells = (replace(bench.cells[0], folder=tmp_path / "trained again"), *bench.cells[1:])
    run_there("pi@board", bench.of(cells, "top1", bench.labels), judge, QUICK, store, Said(), {}, sys.executable)
    assert bench.results(store)[0].facts["score"] < 100, "records of another file are not told as those of this one"
    assert len(list((board / ".cache/edgepress").iterdir())) == 2


def test_a_link_that_breaks_goes_on_where_it_was(tmp_path: Path, board: Path) -> None:
    large = np.random.default_rng(0).bytes(400_000)
    (tmp_path / "large.bin").write_bytes(large)
    files = {"a/large.bin": tmp_path / "large.bin"}
    (board / "breaks").write_text("150000\ndown\n250000\n")
    said, sent = Said(), list[int]()
    link = Link("pi@board")
    patiently(lambda: sent.append(link.send(files, "there")), said)
    assert (board / "there/a/large.bin").read_bytes() == large
    assert len([line for line in said.lines if "the link broke" in line]) == 3
    assert sent[-1] < 150_000, "only the rest was sent"
    assert link.send(files, "there") == 0


def test_what_arrives_damaged_is_not_kept(tmp_path: Path, board: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    (board / "there").mkdir()
    (board / "there/file.part").write_bytes(b"y" * 10)
    with pytest.raises(LinkError, match="did not arrive as it was sent"):
        Link("pi@board").send({"file": tmp_path / "file"}, "there")
    assert list((board / "there").iterdir()) == []


def test_a_machine_that_cannot_be_reached_is_told(tmp_path: Path, board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, judge, store = matrix_of(tmp_path)
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    (board / "breaks").write_text("down\ndown\n")
    with pytest.raises(LinkError, match=r"the link broke 2 times: .*Connection timed out"):
        run_there("pi@board", bench, judge, QUICK, store, Said(), {})
    with pytest.raises(LinkError, match=r"pi@board: .*not-python"):
        run_there("pi@board", bench, judge, QUICK, store, Said(), {}, "not-python")
    monkeypatch.setenv("EDGEPRESS_SSH", "no-such-ssh")
    with pytest.raises(LinkError, match="needs an ssh client"):
        Link("pi@board").run("true")


def test_waiting_for_the_process_of_a_broken_link_is_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    left, said = [BusyError("another process measures")] * 5, Said()

    def work() -> str:
        if left:
            raise left.pop()
        return "done"

    assert patiently(work, said) == "done" and said.lines[0].startswith("waiting (another process measures)")
    monkeypatch.setattr(remote, "PATIENCE", -1.0)
    left[:] = [BusyError("another process measures")]
    with pytest.raises(LinkError, match="another process measures; the same command goes on"):
        patiently(work, said)


@pytest.mark.parametrize("to", ["-oProxyCommand=evil", "a b", "pi@board;rm", "", "pi@@board"])
def test_a_destination_is_no_option_and_no_command(to: str) -> None:
    with pytest.raises(ConfigError, match="an ssh destination is wanted"):
        Link(to)


def test_the_wheel_is_this_edgepress(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    assert wheel.name == wheel_name() and wheel.read_bytes() == write_wheel(tmp_path / "again").read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = archive.read(next(name for name in names if name.endswith("/RECORD"))).decode()
    assert "edgepress/measure/there.py" in names and "edgepress/measure/page/report.css" in names
    assert not any("__pycache__" in name for name in names)
    assert [line.split(",")[0] for line in record.splitlines()] == names


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An ssh server of the test's own on this machine; yields its destination."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd on this machine")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "allowed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/allowed\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nSetEnv HOME={tmp_path}/home\n"
    )
    (tmp_path / "home").mkdir()
    if os.geteuid() == 0:  # sshd refuses to start as root without this folder, which a service manager makes
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.DEVNULL)
    client = f"ssh -F none -i {tmp_path}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    monkeypatch.setenv("EDGEPRESS_SSH", f"{client} -o LogLevel=ERROR")
    try:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        if process.poll() is not None:
            pytest.skip("sshd does not start for this user")
        yield f"ssh://{os.environ.get('USER', 'root')}@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_a_matrix_over_a_real_link(tmp_path: Path, server: str) -> None:
    bench, judge, store = matrix_of(tmp_path)
    # The server starts commands in the real home folder of the account: a folder of this test's own is named in full.
    store = store.rename(tmp_path / f"edgepress-test-{os.getpid()}")
    bench = replace(bench, cells=bench.cells[:1])
    try:
        run_there(server, bench, judge, QUICK, store, Said(), {}, sys.executable)
        (good,) = bench.results(store)
        assert good.facts["score"] == 100 and len(good.turns) == 2
    finally:
        for folder in (Path("~").expanduser() / ".cache/edgepress").glob(f"{store.name}-*"):
            shutil.rmtree(folder)
