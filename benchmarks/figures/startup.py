"""`cli-help` and `first-prediction`: whole processes, from start to end, by the clock outside.

The prediction runs on the base install: a virtual environment of its own with `requirements/base.lock`, hence
without torch.
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.base import ROOT, Options, one_thread
from benchmarks.bundles import bundle
from edgepress.core.errors import EdgepressError
from edgepress.core.files import sha256, write_bytes
from edgepress.measure.rows import Row

REPEATS = 15
HELP = "import sys; sys.argv[0] = 'edgepress'; from edgepress.cli import main; sys.exit(main())"
PREDICT = """
import sys, edgepress
answer = edgepress.load(sys.argv[1])(sys.argv[2])
assert "torch" not in sys.modules
print(answer)
"""


def measure(options: Options) -> list[Row]:
    """Return the seconds of both, the median over processes, after one that fills the caches."""
    repeats = 2 if options.quick else REPEATS
    script = Path(sys.executable).with_name("edgepress")
    help_command = [str(script)] if script.exists() else [sys.executable, "-c", HELP]
    image = options.work / "photo.png"
    _photo(image)
    first = [str(base_python(options)), "-c", PREDICT, str(bundle(options)), str(image)]
    rows: list[Row] = []
    for artifact, command in (("cli-help", [*help_command, "--help"]), ("first-prediction", first)):
        times = process_seconds(command, repeats)
        p50, p99 = statistics.median(times), max(times)
        rows.append(options.row(artifact, "seconds", p50, "s", "lower", n=repeats, p50=p50, p99=p99))
    return rows


def process_seconds(command: list[str], repeats: int) -> list[float]:
    """Return how long each of `repeats` processes took; raise `EdgepressError` with its output where one fails."""
    times: list[float] = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        # In another folder, so that nothing is found by accident; with our sources, as an install would have them.
        done = subprocess.run(command, env=_sources(), cwd="/", capture_output=True, text=True, check=False)
        times.append(time.perf_counter() - begin)
        if done.returncode:
            raise EdgepressError(f"{command[0]} ended with exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return times[1:]


def base_python(options: Options) -> Path:
    """Return the interpreter of a base install, made at first use and made anew when the lock changes."""
    lock = ROOT / "requirements" / "base.lock"
    folder = options.work / "base-venv"
    python, stamp = folder / "bin" / "python", folder / "lock.sha256"
    if stamp.exists() and stamp.read_text() == sha256(lock):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([*_installer(python), "--quiet", "--requirement", str(lock)], check=True)
    write_bytes(stamp, sha256(lock).encode())
    return python


def _installer(python: Path) -> list[str]:
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        return [str(uv), "pip", "install", "--python", str(python)]
    return [str(python), "-m", "pip", "install"]


def _sources() -> dict[str, str]:
    return one_thread(PYTHONPATH=str(ROOT / "src"))


def _photo(path: Path) -> None:
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)).save(path)
