"""What this machine is, in words short enough for a row. Imports nothing heavy.

It reads /proc and /sys where there are any. Functions that do so take `root`, so that recorded trees of other boards
can be read in tests.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path("/")

_FEATURES = (
    # Strongest first: what decides how fast INT8 and BF16 run.
    "amx_int8", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512f", "avx2", "fma", "sse4_2",
    "sme", "sve2", "sve", "i8mm", "bf16", "asimddp", "asimdhp", "asimd", "neon",
)  # fmt: skip

_PACKAGES = (
    "edgepress",
    "torch",
    "onnxruntime",
    "openvino",
    "executorch",
    "ai-edge-litert",
    "ncnn",
    "tensorrt",
    "coremltools",
)


def cpu_features(root: Path = ROOT) -> tuple[str, ...]:
    """Return the instruction sets that matter for small networks, strongest first."""
    found = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    have = set(found[0].split()) if found else set[str]()
    return tuple(name for name in _FEATURES if name in have)


def cpu_name(root: Path = ROOT) -> str:
    """Return the processor's (or, on a board that does not name it, the board's) name without trademarks."""
    found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    name = found[1] if found else _read(root / "proc/device-tree/model").rstrip("\0")
    name = re.sub(r"\((?:R|TM)\)|\bCPU\b|\bProcessor\b|@.*$", "", name or platform.processor() or platform.machine())
    return " ".join(name.split())


def allowed_cpus() -> tuple[int, ...]:
    """Return the logical CPUs that this process may run on."""
    if sys.platform == "linux":
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def logical_cores() -> int:
    """Return how many logical CPUs this process may run on."""
    return len(allowed_cpus())


def physical_cores(root: Path = ROOT, cpus: Sequence[int] | None = None) -> int:
    """Return on how many physical cores the logical `cpus` (those of this process, unless given) lie."""
    return len(core_groups(root, cpus))


def core_groups(root: Path = ROOT, cpus: Sequence[int] | None = None) -> list[list[int]]:
    """Return the logical `cpus` grouped by physical core, the best core to measure on first.

    Boards mix fast and slow cores; the kernel states their relative speed as `cpu_capacity`, and fast ones come first.
    Of equally fast ones the last comes first: the kernel likes to serve interrupts on CPU 0.
    """
    groups: dict[str, list[int]] = {}
    speeds: dict[str, int] = {}
    for cpu in allowed_cpus() if cpus is None else cpus:
        folder = root / f"sys/devices/system/cpu/cpu{cpu}"
        siblings = _read(folder / "topology/thread_siblings_list").strip() or str(cpu)
        groups.setdefault(siblings, []).append(cpu)
        capacity = _read(folder / "cpu_capacity").strip()
        speeds[siblings] = int(capacity) if capacity.isdigit() else 0
    return [groups[name] for name in sorted(groups, key=lambda name: (-speeds[name], -groups[name][0]))]


def governor(root: Path = ROOT) -> str:
    """Return the frequency governors in use ("performance", "schedutil"), empty where the kernel does not say."""
    folder = root / "sys/devices/system/cpu"
    names = {_read(path).strip() for path in sorted(folder.glob("cpu[0-9]*/cpufreq/scaling_governor"))}
    return ", ".join(sorted(names - {""}))


def spoilers(root: Path = ROOT) -> list[str]:
    """Return what would spoil a measurement here now, each with the mend, in a line; empty on a quiet machine."""
    found: list[str] = []
    governors = governor(root)
    if governors and governors != "performance":
        found.append(f"the frequency governor is {governors}: `sudo cpupower frequency-set -g performance`")
    busy, cores = _number(root / "proc/loadavg"), max(physical_cores(root), 1)
    if busy is not None and busy > 0.3 * cores:
        found.append(f"other programs run (load {busy:.1f} on {cores} cores): measure when the machine is quiet")
    limit = _number(root / "sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = _number(root / "sys/devices/system/cpu/cpufreq/boost")
    if limit == 0 or boost == 1:
        found.append("clocks may rise and fall with the temperature (turbo is on): short runs look too fast")
    for path in sorted((root / "sys/class/power_supply").glob("*/status")):
        if _read(path).strip() == "Discharging":
            found.append("it runs on battery, where many machines are slower: plug it in, unless that is the question")
            break
    if sys.platform == "linux" and len(allowed_cpus()) < (os.cpu_count() or 1):
        found.append(f"this process may use {len(allowed_cpus())} of {os.cpu_count()} CPUs (taskset, a container)")
    return found


def pinning() -> str:
    """Return whether a measurement can keep its threads on cores of their own, and which come first."""
    if sys.platform != "linux":
        return "this system cannot keep threads on a core"
    return f"threads are kept on cores, CPU {', '.join(str(group[0]) for group in core_groups())} in this order"


def memory_bytes(root: Path = ROOT) -> int:
    """Return the machine's memory in bytes, 0 where it is not known."""
    found = re.search(r"^MemTotal:\s*(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


@cache
def machine() -> str:
    """Return this machine in a few words: "AMD EPYC, 2 cores, avx512_vnni"."""
    cores = physical_cores()
    best = cpu_features()[:1]
    return ", ".join([cpu_name(), f"{cores} core{'' if cores == 1 else 's'}", *best])


@cache
def versions(packages: tuple[str, ...] = _PACKAGES) -> str:
    """Return the installed ones of `packages` with their versions: "torch 2.14.1; onnxruntime 1.31.1"."""
    return "; ".join(f"{name} {found}" for name in packages if (found := package_version(name)))


def package_version(name: str) -> str:
    """Return the version of the distribution `name`, empty where it is not installed. Does not import it."""
    try:
        return version(name).split("+")[0]
    except PackageNotFoundError:
        return ""


@cache
def commit() -> str:
    """Return the git commit of this edgepress, with "-dirty" where it was changed, or "" outside a repository.

    A package installed into a virtual environment inside somebody's repository is not that repository's: only a
    tracked source file counts.
    """
    here = Path(__file__).resolve()
    if not _git(here.parent, "ls-files", "--error-unmatch", here.name):
        return ""
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def environment() -> dict[str, str]:
    """Return what a report says about the machine and the software, by heading."""
    memory = memory_bytes()
    described = {
        "machine": machine(),
        "cores": f"{physical_cores()} physical, {logical_cores()} logical usable",
        "cpu features": " ".join(cpu_features()),
        "governor": governor(),
        "memory": f"{memory / 2**30:.1f} GiB" if memory else "",
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "python": platform.python_version(),
        "versions": versions(),
        "commit": commit(),
    }
    return {name: text for name, text in described.items() if text}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    """Return the first number in a file of the kernel, None where there is none."""
    words = _read(path).split()
    try:
        return float(words[0]) if words else None
    except ValueError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
