"""Processes of one training: started with what connects them, ended together, and the reason is said."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from cli.helpers import Call, Small, fresh
from edgepress.cli.launch import launch

pytestmark = pytest.mark.timeout(600)


def script(folder: Path, text: str) -> list[str]:
    path = folder / "work.py"
    path.write_text("import os, signal, sys, time\nrank = int(os.environ['RANK'])\n" + textwrap.dedent(text))
    return [sys.executable, str(path)]


def test_all_are_connected_and_only_the_first_is_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    text = f"""
        print('rank', rank, *(os.environ[name] for name in {names}))
        print('error of', rank, file=sys.stderr)
    """
    assert launch(script(tmp_path, text), 3, "again") == 0
    out, err = capfd.readouterr()
    assert out.startswith("rank 0 0 3 0 127.0.0.1 ") and out.count("rank") == 1 and err == "error of 0\n"


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, "Process 1 of 2 was killed (SIGKILL); the others are stopped."),
        ("sys.exit('out of memory')", 1, "out of memory\nProcess 1 of 2 failed with exit code 1;"),
        ("sys.exit(6)", 6, "Process 1 of 2 failed with exit code 6; the others are stopped. Go on with: again"),
    ],
)
def test_one_that_ends_badly_ends_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], end: str, code: int, said: str
) -> None:
    begin = time.monotonic()
    assert launch(script(tmp_path, f"time.sleep(300) if rank == 0 else {end}"), 2, "again") == code
    assert time.monotonic() - begin < 200
    assert said in capfd.readouterr().err


def test_they_end_with_the_one_that_launched_them(tmp_path: Path) -> None:
    """Also when that one has had no chance to say anything."""
    text = f"""
        from pathlib import Path
        from edgepress.cli.launch import end_with_launcher
        end_with_launcher()
        Path({str(tmp_path)!r}, f'pid-{{rank}}').write_text(str(os.getpid()))
        time.sleep(300)
    """
    words = script(tmp_path, text)
    start = f"from edgepress.cli.launch import launch; launch({words!r}, 2, '')"
    launcher = subprocess.Popen([sys.executable, "-c", start])
    pids = [tmp_path / f"pid-{rank}" for rank in range(2)]
    assert eventually(lambda: all(path.exists() and path.read_text() for path in pids))
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    assert eventually(lambda: not any(alive(int(path.read_text())) for path in pids))


def eventually(true: object) -> bool:
    end = time.monotonic() + 100
    while not true():  # pyright: ignore[reportCallIssue]
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text() if Path("/proc/self").exists() else ""
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    return ") Z " not in state


def test_a_launcher_and_the_option_must_agree(small: Small, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = call("run", small.recipe, "--runs", small.runs, "--processes", 3)
    assert result.exit_code == 2 and "a launcher has started 2: leave the option out" in result.output


def test_an_unknown_tracker_is_told_before_anything_runs(small: Small, call: Call) -> None:
    result = call("run", small.recipe, "--runs", small.runs, "--track", "jsonl,wandbb")
    assert result.exit_code == 2 and "unknown tracker 'wandbb'; did you mean 'wandb'?" in result.output


def test_a_recipe_is_tracked_from_the_command_line(small: Small, call: Call, tmp_path: Path) -> None:
    result = call("run", small.recipe, "--runs", tmp_path, "--until", "teacher", "--track", "jsonl")
    assert result.exit_code == 0, result.output
    track = tmp_path / "recipe-small" / "track" / "jsonl"
    assert "val/top1" in (track / "teacher.jsonl").read_text()
    assert [path.name for path in (track / "teacher").iterdir()] == ["samples-000003.png"]
    again = call("run", small.recipe, "--runs", tmp_path, "--until", "teacher")
    assert "kept from an earlier run" in again.output, "who is told is in no key"


@pytest.mark.slow
def test_two_processes_from_the_command_line(small: Small, tmp_path: Path) -> None:
    result = fresh("run", small.recipe, "--runs", tmp_path, "--processes", 2, "--json")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("{") and result.stderr.count("student: done in") == 1
    assert '"processes": 2' in next(tmp_path.glob("train-*/notes.json")).read_text()
