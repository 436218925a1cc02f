"""Which machine a measured time belongs to."""

import platform
from pathlib import Path


def machine() -> str:
    """Return the processor's name, model and instruction sets as the system gives them."""
    info = Path("/proc/cpuinfo")
    wanted = ("model name", "model", "stepping", "cpu family", "flags", "Features", "CPU part", "CPU implementer")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    first = lines[: lines.index("")] if "" in lines else lines
    found = [line for line in first if line.split("\t")[0].split(":")[0].strip() in wanted]
    return "\n".join([platform.machine(), platform.processor(), *found])
