"""`edgepress bench`: what a network costs here on every engine and precision, and which file to ship."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import note, print_json, show_table

if TYPE_CHECKING:
    from edgepress.measure.cell import Cell
    from edgepress.measure.matrix import Judge, Result
    from edgepress.measure.prepare import Wanted
    from edgepress.measure.verdict import Budget, Verdict

SECTION = "Bundles"
CALIBRATION, GATE = 512, 256
"""Images of the train split that choose ranges, and of the validation split that a new file is proven on."""


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    return ("all",) if "all" in names else names


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in value.split(",") if part.strip()))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers from 1, such as 1 or 1,8")
    return numbers


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="MODEL_OR_BUNDLE...")
@click.option("--runtimes", callback=_names, default="", metavar="all|A,B", help="Engines; default: the bundle's own.")
@click.option(
    "--precisions", callback=_names, default="", metavar="all|A,B", help="fp32, bf16, int8 ...; default: all."
)
@click.option("--data", metavar="NAME|PATH", help="Score on this data; a model needs it for its 8-bit files.")
@click.option("--images", type=click.IntRange(0), default=1000, show_default=True, help="Test images (0: all).")
@click.option("--threads", callback=_numbers, default="1", show_default=True, metavar="1,2", help="Threads of a call.")
@click.option("--batch", callback=_numbers, default="1", show_default=True, metavar="1,8", help="Images of a call.")
@click.option("--calls", type=click.IntRange(30), default=300, show_default=True, help="Timed calls of each cell.")
@click.option("--limit", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds a cell may hang.")
@click.option("--tdp", type=click.FloatRange(0, min_open=True), help="Watts, to estimate energy that nothing counts.")
@click.option("--drop", type=float, default=1.0, show_default=True, help="Budget: points of score.")
@click.option("--ms", type=float, help="Budget: milliseconds.")
@click.option("--mb", type=float, help="Budget: megabytes of the file.")
@click.option("--mj", type=float, help="Budget: millijoules of a call.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder; default: in --runs.")
@runs_option
@json_option
def command(
    what: tuple[str, ...], data: str | None, images: int, drop: float, ms: float | None, mb: float | None,
    mj: float | None, out: Path | None, runs: Path, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Measure files of a network on every engine here, and say which to ship.

    Each cell runs in its own process, so that a crash empties one cell only; all are timed in turns. What was measured
    stays when you press Ctrl-C, and the same command goes on.
    """
    import shlex

    from edgepress.cli.progress import TerminalProgress
    from edgepress.measure import matrix
    from edgepress.measure.matrix_rows import rows
    from edgepress.measure.prepare import open_store
    from edgepress.measure.rows import write_rows
    from edgepress.measure.verdict import Budget

    wanted = _wanted(options, data)
    settings = matrix.Settings(calls=options["calls"], limit=options["limit"], tdp=options["tdp"] or 0.0)
    prints = [_fingerprint(one, runs) for one in what]
    plan = _plan(prints, data, images, wanted, settings)
    store = out or runs / f"bench-{hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]}"
    open_store(store, plan)
    score, cells = "top1", []
    with TerminalProgress() as progress:
        try:
            cells, judge, score = _prepare(what, data, images, wanted, store, runs, progress)
            matrix.run(cells, judge, settings, store, progress)
        except KeyboardInterrupt:
            progress.say(f"stopped; the same command goes on from {store}")
            if not cells:
                raise
    results = matrix.results(cells, store)
    write_rows(store / "rows.jsonl", rows(results, score, shlex.join(["edgepress", *sys.argv[1:]])))
    _tell(results, Budget(drop, ms, mb, mj), store, as_json)


def _wanted(options: dict[str, Any], data: str | None) -> "Wanted":
    """Return what was asked for, `all` spelled out. Raises `ConfigError` where other engines are asked for without
    images to prove their files on."""
    from edgepress.core.errors import ConfigError
    from edgepress.measure.prepare import Wanted, runtime_of

    runtimes, precisions = options["runtimes"], options["precisions"]
    if runtimes == ("all",):
        runtimes = tuple(dict.fromkeys(runtime_of(format) for format in _formats()))
    if set(runtimes) - {"onnxruntime"} and data is None:
        raise ConfigError("--runtimes: files for other engines are proven on images: give --data NAME, too")
    return Wanted(runtimes, () if precisions == ("all",) else precisions, options["threads"], options["batch"])


def _name(given: str, taken: list[str]) -> str:
    """Return a short name for what was given that is not `taken`: a cell is known by it."""
    name = Path(given).name.replace(" ", "_")[-40:]
    return name if name not in taken else f"{name}-{len(taken) + 1}"


def _network(given: str, runs: Path) -> tuple[Path, bool]:
    """Return the folder that `given` means, and whether a model lies there, not a bundle."""
    from edgepress.cli.targets import find_target

    if (Path(given) / "structure.json").exists():
        return Path(given), True
    found = find_target(given, runs)
    return found.folder, found.kind == "stage" and not (found.folder / "bundle").is_dir()


def _fingerprint(given: str, runs: Path) -> list[str]:
    """Return what makes a network another one: the names, sizes and dates of its files."""
    folder, _ = _network(given, runs)
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".onnx", ".safetensors", ".json", ".bin"))
    return [
        given,
        *(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files if path.is_file()),
    ]


def _plan(prints: list[list[str]], data: str | None, images: int, wanted: "Wanted", settings: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from edgepress.measure import environment

    about = {"machine": environment.machine(), "versions": environment.versions()}
    plan = {"what": prints, "data": data, "images": images, "wanted": asdict(wanted), "settings": asdict(settings)}
    return json.loads(json.dumps({**plan, **about}))


def _prepare(
    what: tuple[str, ...], data: str | None, images: int, wanted: "Wanted", store: Path, runs: Path, progress: Any
) -> "tuple[list[Cell], Judge | None, str]":
    """Return the cells, what to judge them by (None without data), and the name of the score."""
    import numpy as np

    from edgepress.cli.eval import load_for
    from edgepress.cli.targets import load_program
    from edgepress.core.errors import ConfigError
    from edgepress.core.files import write_array
    from edgepress.measure import prepare
    from edgepress.measure.matrix import Judge
    from edgepress.tasks.base import tasks

    cells: list[Cell] = []
    signatures: list[Any] = []
    models: dict[str, dict[str, Path]] = {}
    names: list[str] = []
    if wanted.runtimes or wanted.precisions:
        prepare.check_wanted(wanted, _formats())
    for given in what:
        folder, is_model = _network(given, runs)
        name = _name(given, names)
        names.append(name)
        if not is_model:
            program, folder = load_program(given, runs)
            signatures.append(program.signature)
            gate = _images(store, data, program.signature)["gate"] if data and wanted.runtimes else None
            converters: Callable[[], list[str]] = _converters if wanted.runtimes else lambda: []
            cells += prepare.from_bundle(
                name, folder, program.runtime, program.precision, gate, converters(), wanted, store
            )
            continue
        if data is None:
            raise ConfigError(f"{given!r} is a network without a file: give --data, on whose images files are made")
        formats, (signature, precision) = _formats(), _model_about(folder)
        signatures.append(signature)
        paths = _images(store, data, signature)
        models[name] = prepare.networks_of(name, folder, precision, paths["calibration"], formats, wanted, store)
        cells += prepare.from_model(name, models[name], paths["gate"], formats, wanted, store, progress)
    if data is None:
        return cells, None, tasks.get(signatures[0].task).main
    loaded = load_for(data, signatures[0])
    count = min(images or len(loaded.test), len(loaded.test))
    seen, targets = loaded.test.read(np.arange(count, dtype=np.int64))
    test = store / f"test-{count}.npy"
    write_array(test, seen)
    found: dict[str, Any] = {}
    for name, networks in models.items():
        files = prepare.references(name, networks, test, store, progress)
        found |= {network: np.load(path) for network, path in files.items()}
    task = signatures[0].task
    return cells, Judge(seen, targets, task, len(signatures[0].labels), found), tasks.get(task).main


def _images(store: Path, data: str, signature: Any) -> dict[str, Path]:
    """Return the files of the images that a network is calibrated and its files are proven on."""
    import numpy as np

    from edgepress.cli.eval import load_for
    from edgepress.core.files import write_array

    paths = {"calibration": store / "calibration.npy", "gate": store / "gate.npy"}
    if not all(path.exists() for path in paths.values()):
        loaded = load_for(data, signature)
        split = loaded.val if len(loaded.val) else loaded.test
        write_array(paths["calibration"], loaded.calibration(CALIBRATION, 0))
        write_array(paths["gate"], split.read(np.arange(min(GATE, len(split)), dtype=np.int64))[0])
    return paths


def _model_about(folder: Path) -> "tuple[Any, str]":
    from edgepress.models.structure import load_model

    model = load_model(folder)
    return model.signature, model.precision


def _formats() -> list[str]:
    """Return the names of all formats. Raises `MissingExtraError` on a base install."""
    from importlib.util import find_spec

    from edgepress.core.errors import MissingExtraError

    if find_spec("torch") is None:
        raise MissingExtraError("making files for other engines", "train")
    from edgepress.export.formats import formats

    # PyTorch first: it is what everything is held against; then ONNX Runtime.
    return sorted(formats, key=lambda name: (not name.startswith("pt2"), not name.startswith("onnx"), name))


def _converters() -> list[str]:
    from edgepress.export.convert import converters

    return list(converters)


def _tell(results: "list[Result]", budget: "Budget", store: Path, as_json: bool) -> None:
    """Print the matrix and its verdicts, one for each number of threads and images."""
    from edgepress.measure import environment
    from edgepress.measure.matrix_rows import plain
    from edgepress.measure.verdict import judge

    blocks: dict[tuple[int, int], list[Result]] = {}
    for result in results:
        blocks.setdefault((result.cell.threads, result.cell.batch), []).append(result)
    verdicts = {about: judge(block, budget) for about, block in blocks.items()}
    if as_json:
        first = {about: _first(block) for about, block in blocks.items()}
        found = [plain(r, first[r.cell.threads, r.cell.batch]) for r in results]
        said = [
            {"threads": about[0], "batch": about[1], **_verdict_plain(verdict)} for about, verdict in verdicts.items()
        ]
        machine = {"machine": environment.machine(), "versions": environment.versions(), "store": str(store)}
        print_json({**machine, "cells": found, "verdicts": said})
        return
    for about, block in blocks.items():
        _show(about, block, verdicts[about], len(blocks) > 1)
    empty = {f"{r.cell.runtime} {r.cell.precision}": r.error for r in results if r.error}
    for name, reason in empty.items():
        note(f"empty: {name}: {reason}")
    note(f"\n{environment.machine()}; rows in {store / 'rows.jsonl'}")


def _first(block: "list[Result]") -> "Result | None":
    return next((result for result in block if result.turns), None)


def _verdict_plain(verdict: "Verdict") -> dict[str, Any]:
    chosen = verdict.chosen
    bundle = str(chosen.cell.folder) if chosen else ""
    return {"ship": bundle, "sentences": list(verdict.sentences), "did_not_help": list(verdict.did_not_help)}


def _show(about: tuple[int, int], block: "list[Result]", verdict: "Verdict", several: bool) -> None:
    from edgepress.measure.matrix_rows import HEADINGS, cells

    if several:
        note(f"\n{about[0]} thread{'s' * (about[0] > 1)}, {about[1]} image{'s' * (about[1] > 1)} a call")
    if len({result.cell.artifact for result in block}) > 1:
        names = [result.cell.artifact for result in block if not result.error]
        lines = [(name, *line[1:]) for name, line in zip(names, cells(block, _first(block)), strict=True)]
        show_table(("bundle", *HEADINGS[1:]), lines, gap=1, right=HEADINGS[2:])
    else:
        show_table(HEADINGS, cells(block, _first(block)), gap=1, right=HEADINGS[2:])
    for sentence in verdict.sentences:
        click.echo(sentence)
    for sentence in verdict.did_not_help:
        click.echo(f"did not help: {sentence}")
    if any(result.restless for result in block):
        note("~ at a latency: it varied too much (p10 to p90 above a quarter of the median) to trust small differences")
    if any(result.estimated for result in block):
        note("~ at an energy: an estimate from CPU time and the stated TDP, not a measurement")
