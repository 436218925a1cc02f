"""From a network to the cells of a matrix: one bundle per format and precision, each made in its own process.

Whatever cannot be made becomes a cell with its reason. Bundles and reasons stay in the store, so nothing is made twice.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from edgepress.core.errors import ConfigError, EdgepressError, suggest
from edgepress.core.files import write_json
from edgepress.core.stage import Progress
from edgepress.measure.cell import EAGER, Cell, CellError, Helper
from edgepress.measure.matrix import append, records
from edgepress.runtime.engine import engines

LIMIT = 900.0
"""Seconds a converter may take."""

ALONE = ("executorch", "litert")
"""Formats whose converters change PyTorch while they are loaded: they do not share a process with others."""

ALIASES = {"int8": ("w8a8",), "int4": ("w4a8",), "int2": ("w2a8",), "fp16": ("fp16", "w16a32")}
"""What people say, and the precisions it stands for. Weights stored in FP16 and computed in FP32 are `w16a32`."""

NARROW = {"w4a8": 4, "w2a8": 2}
"""Networks whose weights have fewer than 8 bits. Two bits need training; they are made only where they are named."""

CODES = ("onnx", "openvino")
"""The formats that a network of fewer bits is written in: elsewhere it would be the 8-bit file over again."""


@dataclass(frozen=True)
class Wanted:
    """What the matrix spans. Empty `runtimes` and `precisions` stand for all there are."""

    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (1,)

    def takes(self, runtime: str, precision: str) -> bool:
        """Return whether a file of this runtime and precision is wanted."""
        named = {known for name in self.precisions for known in ALIASES.get(name, (name,))}
        by_default = not named and precision.split("+")[0] != "w2a8"
        return (not self.runtimes or runtime in self.runtimes) and (by_default or precision in named)


def runtime_of(format: str) -> str:
    """Return the engine of a format: "openvino" for "openvino-bf16"."""
    return {"onnx": "onnxruntime"}.get(name := format.partition("-")[0], name)


def precision_of(format: str, network: str) -> str:
    """Return the precision of a network ("fp32", "w8a8") in a format: "bf16" or "w8a8+bf16" for "openvino-bf16"."""
    if format == "onnx-fp16" and network == "fp32":
        return "w16a32"
    arithmetic = format.partition("-")[2]
    return network if not arithmetic else arithmetic if network == "fp32" else f"{network}+{arithmetic}"


def others(runtime: str) -> list[str]:
    """Return the engines that run the bundles of `runtime`, too, and have none of their own."""
    return [name for name in engines if engines.get(name).runs == runtime]


def check_wanted(wanted: Wanted, formats: Sequence[str]) -> None:
    """Raise `ConfigError` for a runtime or precision that nobody has, with the nearest name."""
    runtimes = {EAGER, *(name for format in formats for name in (runtime_of(format), *others(runtime_of(format))))}
    networks = ("fp32", "w8a8", *NARROW)
    precisions = {precision_of(format, network) for format in formats for network in networks} | set(ALIASES)
    problems = [
        f"unknown runtime {name!r}{suggest(name, runtimes)}" for name in wanted.runtimes if name not in runtimes
    ]
    problems += [
        f"unknown precision {name!r}{suggest(name, precisions)}" for name in wanted.precisions if name not in precisions
    ]
    if problems:
        raise ConfigError(problems)


class Workshop:
    """What makes files, and the folder they are made in: a process per family of formats, begun when it is needed.

    A process that crashes or hangs fails one file; the next file gets a new one.
    """

    module: ClassVar[str] = "edgepress.measure.workshop"

    def __init__(self, store: Path, limit: float = LIMIT) -> None:
        self.store, self._limit = store, limit
        self._family, self._process = "", None

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(self, *about: object) -> None:
        self._end()

    def make(self, to: Path, do: str, **arguments: object) -> str:
        """Have `to` made, unless it is there; return "" or why it could not be made, now or earlier."""
        failed = {record["made"]: record["reason"] for record in records(self.store / "failed.jsonl")}
        if to.exists() or to.name in failed:
            return "" if to.exists() else str(failed[to.name])
        family = runtime_of(str(arguments.get("format", "")))
        family = family if family in ALONE else "shared"
        if self._process is None or family != self._family:
            self._end()
            self._family, self._process = family, Helper(self.module, [], self._limit)
        try:
            self._process.ask(do, to=str(to), **{name: _word(value) for name, value in arguments.items()})
        except CellError as error:
            append(self.store / "failed.jsonl", {"made": to.name, "reason": str(error)})
            if self._process.over:
                self._end()
            return str(error)
        return ""

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
        self._process = None


def _word(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def from_model(
    artifact: str, networks: Mapping[str, Path], images: Path, formats: Sequence[str], wanted: Wanted, shop: Workshop,
    progress: Progress,
) -> list[Cell]:  # fmt: skip
    """Return the cells of the saved `networks`, by precision; `images` is a `.npy` file for the parity gate."""
    plans = [
        (format, network)
        for format in formats
        for network in networks
        if format in CODES or network not in NARROW
        if format != "onnx-fp16" or network == "fp32"  # it stores weights, which codes are smaller than
        if any(wanted.takes(name, precision_of(format, network)) for name in _runners(format))
    ]
    files: dict[tuple[str, str], Cell] = {}
    for format, network in progress.track(plans, len(plans), "exporting"):
        kind = precision_of(format, network)
        progress.status(f"{runtime_of(format)} {kind}")
        folder, reason = networks[network], ""
        if (folder / "reason").exists():
            reason = (folder / "reason").read_text()
        to = shop.store / "bundles" / f"{artifact}-{format}-{network}"
        onnx = shop.store / "bundles" / f"{artifact}-onnx-{network}"
        reason = reason or shop.make(to, "export", model=folder, format=format, images=images, onnx=onnx)
        files[format, network] = Cell(artifact, format, runtime_of(format), kind, 1, 1, None if reason else to, reason)
    cells: list[Cell] = []
    if "fp32" in networks and wanted.takes(EAGER, "fp32"):
        cells += spread(Cell(artifact, EAGER, EAGER, "fp32", 1, 1, networks["fp32"]), wanted)
    ordered = [files[plan] for network in networks for plan in plans if plan[1] == network]
    return cells + [cell for file in ordered for cell in cells_of(file, wanted)]


def cells_of(cell: Cell, wanted: Wanted) -> list[Cell]:
    """Return the cells of one file: on its own engine and on those that run such files, too; spread out."""
    found = [cell] if wanted.takes(cell.runtime, cell.precision) else []
    for name in others(cell.runtime):
        if wanted.takes(name, cell.precision):
            reason = cell.reason or engines.get(name).available() or ""
            found.append(replace(cell, runtime=name, folder=None if reason else cell.folder, reason=reason))
    return [one for each in found for one in spread(each, wanted)]


def _runners(format: str) -> list[str]:
    return [runtime_of(format), *others(runtime_of(format))]


def from_bundle(
    artifact: str, bundle: Path, runtime: str, precision: str, images: Path | None, converters: Sequence[str],
    wanted: Wanted, shop: Workshop,
) -> list[Cell]:  # fmt: skip
    """Return the cells of a bundle: itself and, of an ONNX file for which `images` are there, the converted ones."""
    own = Cell(artifact, runtime, runtime, precision, 1, 1, bundle)
    cells = spread(own, wanted)
    if wanted.runtimes:
        cells += [cell for cell in cells_of(own, wanted) if cell.runtime != runtime]
    for format in converters if images is not None and runtime == "onnxruntime" and wanted.runtimes else ():
        engine, kind = runtime_of(format), precision_of(format, precision)
        if wanted.takes(engine, kind):
            to = shop.store / "bundles" / f"{artifact}-{format}-{precision}"
            reason = shop.make(to, "convert", bundle=bundle, format=format, images=images)
            cells += spread(Cell(artifact, format, engine, kind, 1, 1, None if reason else to, reason), wanted)
    return cells


def networks_of(
    artifact: str,
    model: Path,
    precision: str,
    calibration: Path,
    formats: Sequence[str],
    wanted: Wanted,
    shop: Workshop,
) -> dict[str, Path]:
    """Return the saved model in the folder `model` and, where they are wanted, its twins of fewer bits, by precision.

    `calibration` is a `.npy` file of images.
    """
    networks = {precision: model}
    for name, bits in {"w8a8": 8, **NARROW}.items() if precision == "fp32" else ():
        able = CODES if name in NARROW else formats
        if any(wanted.takes(runner, precision_of(f, name)) for f in able if f in formats for runner in _runners(f)):
            networks[name] = quantized(model, calibration, bits, shop, artifact)
    return networks


def quantized(model: Path, images: Path, bits: int, shop: Workshop, artifact: str) -> Path:
    """Return the folder of the network with weights of so many bits, or one that holds the reason why there is none."""
    to = shop.store / "models" / f"{artifact}-w{bits}a8"
    if reason := shop.make(to, "quantize", model=model, images=images, bits=bits):
        to.mkdir(parents=True, exist_ok=True)
        (to / "reason").write_text(f"not quantized: {reason}")
    return to


def references(
    artifact: str, models: Mapping[str, Path], images: Path, shop: Workshop, progress: Progress
) -> dict[str, Path]:
    """Return the files with what the networks in `models` (by precision) themselves answer."""
    found: dict[str, Path] = {}
    for precision, folder in models.items():
        if (folder / "reason").exists():
            continue
        to = shop.store / "references" / f"{artifact}-{precision}.npy"
        if reason := shop.make(to, "outputs", model=folder, images=images):
            progress.say(f"{artifact} {precision} in PyTorch: {reason}")
        else:
            found[f"{artifact} {precision}"] = to
    return found


def layer_names(artifact: str, model: Path, shop: Workshop) -> list[str]:
    """Return the module paths of the layers of the network in `model`, in the order in which it calls them; an empty
    list where they cannot be had."""
    to = shop.store / "models" / f"{artifact}-layers.json"
    return [] if shop.make(to, "layers", model=model) else json.loads(to.read_bytes())


def spread(cell: Cell, wanted: Wanted) -> list[Cell]:
    """Return `cell` on every wanted number of threads and images."""
    return [replace(cell, threads=threads, batch=batch) for threads in wanted.threads for batch in wanted.batches]


def open_store(folder: Path, plan: dict[str, object]) -> None:
    """Write down what the store at `folder` is for; raise `EdgepressError` where it is for something else."""
    path = folder / "plan.json"
    if path.exists():
        if json.loads(path.read_bytes()) != plan:
            raise EdgepressError(f"{folder} holds another matrix; name a new folder with --out, or remove it")
    else:
        write_json(path, plan)
