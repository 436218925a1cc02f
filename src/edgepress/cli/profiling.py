"""`edgepress show --profile`: where the time of a network goes, in PyTorch and in its engine, and what to cut first."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.look import shortened
from edgepress.cli.output import note, print_json, show_table
from edgepress.cli.subject import Subject, find_subject, images_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepress.core.artifact import Program
    from edgepress.train.layer_times import LayerTime

IMAGES = 32
WIDEST = 24
BAR = 16
EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_profile(what: str, runs: Path, files: Sequence[str], threads: int, as_json: bool) -> None:
    """Print the time of every layer for one image, as numbers and as a bar at its place in the call."""
    subject = find_subject(what, runs)
    images, origin = images_for(subject, files, IMAGES, noise=True)
    layers, total = _in_pytorch(subject, images, threads) if subject.model else ([], 0.0)
    operations = _in_engine(subject, images, threads)
    if as_json:
        print_json(_plain(subject, layers, total, operations, origin, threads))
        return
    if layers:
        _print_layers(layers, total, _by_number(layers, operations))
    else:
        _print_operations(operations)
    engine = sum(entry["ms"] for entry in operations)
    runtime = subject.program.runtime if subject.program else "onnxruntime"
    place = runtime if _by_number(layers, operations) else "PyTorch"
    whole = [f"PyTorch {total:.3g} ms"] * bool(layers) + [f"{runtime} {engine:.3g} ms"] * bool(operations)
    click.echo(f"\none image, {threads} thread{'s' * (threads > 1)}: {', '.join(whole)}")
    _print_advice(layers, _shares(layers, operations), place, origin)


def _in_pytorch(subject: Subject, images: "NDArray[np.uint8]", threads: int) -> "tuple[list[LayerTime], float]":
    from dataclasses import replace

    import torch

    from edgepress.models.predictor import TorchPredictor
    from edgepress.train.layer_times import felt_without, time_layers

    assert subject.model is not None
    predictor = TorchPredictor(subject.model)
    with _threads(threads):
        layers, total = time_layers(subject.model.module, lambda: predictor(images[:1]))
        felt = felt_without(subject.model.module, layers, lambda n: torch.from_numpy(predictor(images[:n])))
    return [replace(layer, felt=felt.get(layer.path)) for layer in layers], total


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_engine(subject: Subject, images: "NDArray[np.uint8]", threads: int) -> list[dict[str, Any]]:
    """Return the operations of the exported file, of a network that is none as ONNX Runtime would run it; an empty list
    where that does not work, with the reason said."""
    from edgepress.core.errors import EdgepressError
    from edgepress.measure.profile import profile
    from edgepress.runtime.preprocess import to_input

    try:
        program = subject.program or _exported(subject, images)
        found = profile(program, threads, to_input(images[:1], subject.signature.input))
    except EdgepressError as error:
        note(f"not timed in an engine: {str(error).splitlines()[0]}")
        return []
    if not found:
        note(f"not timed in its engine: {program.runtime} tells no times of layers")
    return found


def _exported(subject: Subject, images: "NDArray[np.uint8]") -> "Program":
    from edgepress.export.onnx import export_onnx

    assert subject.model is not None
    return export_onnx(subject.model, images)


def _by_number(layers: "Sequence[LayerTime]", operations: Sequence[dict[str, Any]]) -> dict[int, float]:
    """Return the milliseconds in the engine of every layer with weights, by its number; nothing where the file counts
    other layers than the network."""
    numbers = {entry["layer"] for entry in operations if entry["layer"] is not None}
    if not numbers or max(numbers) != max((x.number for x in layers if x.number is not None), default=-1):
        return {}
    return {n: sum(entry["ms"] for entry in operations if entry["layer"] == n) for n in numbers}


def _shares(layers: "Sequence[LayerTime]", operations: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the share of the time of every layer by path, in percent: in the engine, if it tells, else in PyTorch."""
    engine = _by_number(layers, operations)
    whole = sum(entry["ms"] for entry in operations) or 1.0
    if not engine:
        return {layer.path: layer.share for layer in layers}
    return {x.path: 100 * engine[x.number] / whole for x in layers if x.number is not None and x.number in engine}


def _print_layers(layers: "Sequence[LayerTime]", total: float, engine: dict[int, float]) -> None:
    whole = sum(engine.values()) or 1.0
    rows: list[tuple[str, ...]] = []
    start = 0.0
    for layer in layers:
        own = engine.get(layer.number) if layer.number is not None else None
        rows.append(
            (
                shortened(layer.path, WIDEST),
                f"{layer.ms:.3f}",
                f"{layer.share:.0f}",
                *(("", "") if own is None else (f"{own:.3f}", f"{100 * own / whole:.0f}")),
                _count(layer.parameters),
                "" if layer.felt is None else f"{layer.felt:.2f}",
                bar(start, layer.share),
            )
        )
        start += layer.share
    rest = max(0.0, 100 - start)
    rows.append(("everything else", f"{total * rest / 100:.3f}", f"{rest:.0f}", "", "", "", "", bar(start, rest)))
    headings = ("layer", "ms", "%", "engine", " %", "params", "felt", "time →")
    show_table(headings, rows, right=("ms", "%", "engine", " %", "params", "felt"), gap=1)


def bar(start: float, share: float) -> str:
    """Return a bar of `share` percent that begins at `start` percent of the call, at most `BAR` characters long."""
    begin = min(int(start / 100 * BAR), BAR - 1)
    eighths = max(1, round(share / 100 * BAR * 8)) if share >= 0.5 else 0
    full, rest = divmod(min(eighths, (BAR - begin) * 8), 8)
    return " " * begin + "█" * full + EIGHTHS[rest].strip()


def _print_operations(operations: Sequence[dict[str, Any]]) -> None:
    rows: list[tuple[str, ...]] = []
    start = 0.0
    for entry in operations:
        name = "-" if entry["layer"] is None else f"layer {entry['layer'] + 1}"
        rows.append(
            (name, str(entry["kind"]), f"{entry['ms']:.3f}", f"{entry['share']:.0f}", bar(start, entry["share"]))
        )
        start += entry["share"]
    if rows:
        show_table(("layer", "operation", "ms", "%", "time →"), rows, right=("ms", "%"), gap=1)


def _print_advice(layers: "Sequence[LayerTime]", shares: dict[str, float], place: str, origin: str) -> None:
    from edgepress.train.layer_times import cut_first

    found = cut_first(layers, shares)
    if not found:
        return
    click.echo("\nCut these first:")
    for layer in found:
        why = f"{shares[layer.path]:.0f} % of the time in {place}, {_count(layer.parameters)} parameters"
        why += "" if layer.felt is None else f", felt {layer.felt:.2f}"
        click.echo(f"  {layer.path}: {why}")
    if any(layer.felt is not None for layer in layers):
        click.echo("felt: how far the outputs change without the weakest quarter of its filters,")
        click.echo(f"      on {origin}")


def _count(number: int) -> str:
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number / 1e3:.0f}k" if number >= 1e4 else str(number)


def _plain(
    subject: Subject,
    layers: "Sequence[LayerTime]",
    total: float,
    operations: Sequence[dict[str, Any]],
    origin: str,
    threads: int,
) -> dict[str, Any]:
    from dataclasses import asdict

    from edgepress.train.layer_times import cut_first

    engine = _by_number(layers, operations)
    return {
        "label": subject.label,
        "images": origin,
        "threads": threads,
        "ms": total,
        "layers": [
            {**asdict(layer), "engine_ms": None if layer.number is None else engine.get(layer.number)}
            for layer in layers
        ],
        "operations": list(operations),
        "cut_first": [layer.path for layer in cut_first(layers, _shares(layers, operations))],
    }
