"""The words about a machine are read from system files, here from recorded ones of two kinds of board."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepress.measure import environment
from edgepress.measure.timing import pinned, time_calls

PHONE = """processor\t: 0
Features\t: fp asimd evtstrm aes asimdhp asimddp
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
SERVER = """processor : 0
model name : Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz
flags : fpu sse4_2 fma avx2 avx512f avx512_vnni
"""


def _tree(root: Path, cpuinfo: str, siblings: list[str], capacities: list[int]) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    (root / "proc/meminfo").write_text("MemTotal:        2048 kB\nMemFree: 1 kB\n")
    for cpu, (same, capacity) in enumerate(zip(siblings, capacities, strict=True)):
        folder = root / f"sys/devices/system/cpu/cpu{cpu}"
        (folder / "topology").mkdir(parents=True)
        (folder / "cpufreq").mkdir()
        (folder / "topology/thread_siblings_list").write_text(same + "\n")
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
        (folder / "cpufreq/scaling_governor").write_text("schedutil\n" if cpu else "performance\n")
    return root


def test_a_server_with_hyperthreads(tmp_path: Path) -> None:
    root = _tree(tmp_path, SERVER, ["0,2", "1,3", "0,2", "1,3"], [1024] * 4)
    assert environment.cpu_name(root) == "Intel Xeon Platinum 8370C"
    assert environment.cpu_features(root)[:2] == ("avx512_vnni", "avx512f")
    assert environment.physical_cores(root, range(4)) == 2
    assert environment.core_groups(root, range(4)) == [[1, 3], [0, 2]]
    assert environment.governor(root) == "performance, schedutil"
    assert environment.memory_bytes(root) == 2048 * 1024


def test_a_board_with_fast_and_slow_cores(tmp_path: Path) -> None:
    root = _tree(tmp_path, PHONE, ["0", "1", "2", "3"], [400, 400, 1024, 1024])
    assert environment.cpu_name(root) == "Raspberry Pi 5 Model B Rev 1.0"
    assert environment.cpu_features(root) == ("asimddp", "asimdhp", "asimd")
    assert environment.core_groups(root, range(4)) == [[3], [2], [1], [0]]


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert environment.cpu_name(tmp_path)
    assert environment.cpu_features(tmp_path) == ()
    assert environment.governor(tmp_path) == ""
    assert environment.core_groups(tmp_path, [0, 1]) == [[1], [0]]


def test_versions_name_what_is_installed_without_importing_it() -> None:
    code = "import sys; from edgepress.measure.environment import *; print(versions()); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, numpy = done.stdout.splitlines()
    assert "onnxruntime " in found and "tensorrt" not in found
    assert numpy == "False"
    assert environment.versions(("no-such-distribution", "numpy")).startswith("numpy ")


def test_this_machine_is_described() -> None:
    described = environment.environment()
    assert described["machine"] == environment.machine()
    assert f"{environment.physical_cores()} core" in environment.machine()
    assert all(described.values())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux pins threads")
def test_threads_are_pinned_and_let_go_again() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), pinned(1) as cpus:
        assert os.sched_getaffinity(0) == set(cpus) and len(cpus) == 1
        raise KeyError
    assert os.sched_getaffinity(0) == before
    with pinned(10_000) as cpus:
        assert cpus == () and os.sched_getaffinity(0) == before


def test_calls_are_warmed_up_counted_and_limited() -> None:
    calls: list[int] = []
    timing = time_calls(lambda: calls.append(1), rounds=50, warmup=7)
    assert (timing.n, len(calls)) == (50, 57)
    assert timing.ms(0.1) <= timing.ms(0.5) <= timing.ms(0.99)
    del calls[:]
    assert time_calls(lambda: calls.append(1), rounds=3, warmup=2, settle=0.02).n == 3
    assert len(calls) > 100
    slow = time_calls(lambda: sum(range(300_000)), rounds=10_000, limit=0.1)
    assert 3 <= slow.n < 1000
    assert slow.per_second(4) == pytest.approx(4 * slow.n / slow.seconds.sum())


def test_what_would_spoil_a_measurement_is_named(tmp_path: Path) -> None:
    for place, text in {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpufreq/boost": "1\n",
        "proc/loadavg": "3.50 2.00 1.00 1/100 1000\n",
        "sys/class/power_supply/BAT0/status": "Discharging\n",
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    told = " ".join(environment.spoilers(tmp_path))
    assert all(word in told for word in ("powersave", "load 3.5", "turbo", "battery"))
    quiet = environment.spoilers(tmp_path / "nothing")
    assert all("this process may use" in line for line in quiet)
    (tmp_path / "proc/loadavg").write_text("odd")
    assert "load" not in " ".join(environment.spoilers(tmp_path)).replace("loaded", "")
