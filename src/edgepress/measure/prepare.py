"""From a network to the cells of a matrix: one bundle per format and precision, each made in its own process.

Whatever cannot be made becomes a cell with its reason. Bundles and reasons stay in the store, so nothing is made twice.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepress.core.errors import ConfigError, EdgepressError, suggest
from edgepress.core.files import write_json
from edgepress.core.stage import Progress
from edgepress.measure.cell import Cell, how_it_ended
from edgepress.measure.matrix import append, records

LIMIT = 900.0
"""Seconds a converter may take."""

ALIASES = {"int8": "w8a8"}


@dataclass(frozen=True)
class Wanted:
    """What the matrix spans. Empty `runtimes` and `precisions` stand for all there are."""

    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1,)

    def takes(self, runtime: str, precision: str) -> bool:
        """Return whether a file of this runtime and precision is wanted."""
        named = {ALIASES.get(name, name) for name in self.precisions}
        return (not self.runtimes or runtime in self.runtimes) and (not named or precision in named)


def runtime_of(format: str) -> str:
    """Return the engine of a format: "openvino" for "openvino-bf16"."""
    return {"onnx": "onnxruntime"}.get(name := format.partition("-")[0], name)


def precision_of(format: str, network: str) -> str:
    """Return the precision of a network ("fp32", "w8a8") in a format: "bf16" or "w8a8+bf16" for "openvino-bf16"."""
    arithmetic = format.partition("-")[2]
    return network if not arithmetic else arithmetic if network == "fp32" else f"{network}+{arithmetic}"


def check_wanted(wanted: Wanted, formats: Sequence[str]) -> None:
    """Raise `ConfigError` for a runtime or precision that nobody has, with the nearest name."""
    runtimes = {runtime_of(format) for format in formats}
    precisions = {precision_of(format, network) for format in formats for network in ("fp32", "w8a8")} | set(ALIASES)
    problems = [
        f"unknown runtime {name!r}{suggest(name, runtimes)}" for name in wanted.runtimes if name not in runtimes
    ]
    problems += [
        f"unknown precision {name!r}{suggest(name, precisions)}" for name in wanted.precisions if name not in precisions
    ]
    if problems:
        raise ConfigError(problems)


def from_model(
    artifact: str, networks: Mapping[str, Path], images: Path, formats: Sequence[str], wanted: Wanted, store: Path,
    progress: Progress,
) -> list[Cell]:  # fmt: skip
    """Return the cells of the saved `networks`, by precision; `images` is a `.npy` file for the parity gate."""
    plans = [
        (format, network)
        for network in networks
        for format in formats
        if wanted.takes(runtime_of(format), precision_of(format, network))
    ]
    cells: list[Cell] = []
    for format, network in progress.track(plans, len(plans), "exporting"):
        kind = precision_of(format, network)
        progress.status(f"{runtime_of(format)} {kind}")
        folder, reason = networks[network], ""
        if (folder / "reason").exists():
            reason = (folder / "reason").read_text()
        to = store / "bundles" / f"{artifact}-{format}-{network}"
        reason = reason or make(["export", str(folder), format, str(images), str(to)], to, store)
        cells += spread(Cell(artifact, format, runtime_of(format), kind, 1, 1, None if reason else to, reason), wanted)
    return cells


def from_bundle(
    artifact: str, bundle: Path, runtime: str, precision: str, images: Path | None, converters: Sequence[str],
    wanted: Wanted, store: Path,
) -> list[Cell]:  # fmt: skip
    """Return the cells of a bundle: itself and, of an ONNX file for which `images` are there, the converted ones."""
    cells = [*spread(Cell(artifact, runtime, runtime, precision, 1, 1, bundle), wanted)]
    for format in converters if images is not None and runtime == "onnxruntime" and wanted.runtimes else ():
        if wanted.takes(format, precision):
            to = store / "bundles" / f"{artifact}-{format}-{precision}"
            reason = make(["convert", str(bundle), format, str(images), str(to)], to, store)
            cells += spread(Cell(artifact, format, format, precision, 1, 1, None if reason else to, reason), wanted)
    return cells


def networks_of(
    artifact: str, model: Path, precision: str, calibration: Path, formats: Sequence[str], wanted: Wanted, store: Path
) -> dict[str, Path]:
    """Return the saved model in the folder `model` and, where it is wanted, its 8-bit twin, by precision.

    `calibration` is a `.npy` file of images.
    """
    networks = {precision: model}
    if precision == "fp32" and any(wanted.takes(runtime_of(f), precision_of(f, "w8a8")) for f in formats):
        networks["w8a8"] = quantized(model, calibration, store, artifact)
    return networks


def quantized(model: Path, images: Path, store: Path, artifact: str) -> Path:
    """Return the folder of the 8-bit network, or one that holds the reason why there is none."""
    to = store / "models" / f"{artifact}-w8a8"
    if reason := make(["quantize", str(model), str(images), str(to)], to, store):
        to.mkdir(parents=True, exist_ok=True)
        (to / "reason").write_text(f"not quantized: {reason}")
    return to


def references(
    artifact: str, models: Mapping[str, Path], images: Path, store: Path, progress: Progress
) -> dict[str, Path]:
    """Return the files with what the networks in `models` (by precision) themselves answer."""
    found: dict[str, Path] = {}
    for precision, folder in models.items():
        if (folder / "reason").exists():
            continue
        to = store / "references" / f"{artifact}-{precision}.npy"
        to.parent.mkdir(parents=True, exist_ok=True)
        reason = make(["outputs", str(folder), str(images), str(to)], to, store)
        if reason:
            progress.say(f"{artifact} {precision} in PyTorch: {reason}")
        else:
            found[f"{artifact} {precision}"] = to
    return found


def make(words: list[str], to: Path, store: Path) -> str:
    """Run one command of the workshop that makes `to`, unless it is there; return "" or why it could not be made."""
    failed = {record["made"]: record["reason"] for record in records(store / "failed.jsonl")}
    if to.exists() or to.name in failed:
        return str(failed.get(to.name, "")) if not to.exists() else ""
    command = [sys.executable, "-m", "edgepress.measure.workshop", *words]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LIMIT, env={**os.environ, **quiet},
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        reason = f"took more than {LIMIT:g} s and was ended"
    else:
        if done.returncode == 0:
            return ""
        last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        reason = last[:300] if done.returncode == 1 else f"{how_it_ended(done.returncode)}: {last[:300]}"
    append(store / "failed.jsonl", {"made": to.name, "reason": reason})
    return reason


def spread(cell: Cell, wanted: Wanted) -> list[Cell]:
    """Return `cell` on every wanted number of threads and images."""
    return [
        Cell(cell.artifact, cell.kind, cell.runtime, cell.precision, threads, batch, cell.folder, cell.reason)
        for threads in wanted.threads
        for batch in wanted.batches
    ]


def open_store(folder: Path, plan: dict[str, object]) -> None:
    """Write down what the store at `folder` is for; raise `EdgepressError` where it is for something else."""
    path = folder / "plan.json"
    if path.exists():
        import json

        if json.loads(path.read_bytes()) != plan:
            raise EdgepressError(f"{folder} holds another matrix; name a new folder with --out, or remove it")
    else:
        write_json(path, plan)
