"""`edgepress show`: what a run, a stage or a bundle is and how it was made."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import duration, pairs, print_json, show, show_facts, show_table, when

if TYPE_CHECKING:
    from edgepress.measure.rows import Row

SECTION = "Results"


@click.command()
@click.argument("what", metavar="RUN|STAGE|BUNDLE")
@click.option(
    "--layers", multiple=True, metavar="GLOB", help='Look into these layers: "layer2.*"; pictures go to --to.'
)
@click.option("--profile", is_flag=True, help="Time every layer, and say what to cut first.")
@click.option("--image", "images", multiple=True, metavar="FILE", help="Show it this image, not those of its run.")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Folder of the pictures.")
@click.option("--threads", type=click.IntRange(1), help="Threads of --profile; default: 1.")
@runs_option
@json_option
def command(
    what: str,
    layers: tuple[str, ...],
    profile: bool,
    images: tuple[str, ...],
    to: Path | None,
    threads: int | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Show what a run, a stage or a bundle is, and how it was made.

    Name a run (demo), a stage of it (demo/student) or a folder.
    """
    from edgepress.cli.targets import find_target

    if layers and profile:
        raise click.UsageError("--layers and --profile answer different questions: ask for one of them")
    if images and not (layers or profile):
        raise click.UsageError("--image is what --layers or --profile looks at: add one of them")
    if to is not None and not layers:
        raise click.UsageError("--to is where the pictures of --layers go: add --layers GLOB")
    if threads is not None and not profile:
        raise click.UsageError("--threads are those of --profile: add it")
    if layers:
        from edgepress.cli.look import show_layers

        return show_layers(what, runs, layers, images, to, as_json)
    if profile:
        from edgepress.cli.profiling import show_profile

        return show_profile(what, runs, images, threads or 1, as_json)
    target = find_target(what, runs)
    {"run": _show_run, "stage": _show_stage, "bundle": _show_bundle}[target.kind](target.folder, as_json)


def _show_run(folder: Path, as_json: bool) -> None:
    from edgepress.cli.targets import read_record, run_rows
    from edgepress.measure.tables import text_table

    record = read_record(folder)
    rows = run_rows(record, folder.parent)
    if as_json:
        print_json({"kind": "run", "folder": str(folder), **record, "rows": _plain(rows)})
        return
    report = folder / "report.html"
    show_facts(
        {
            "run": f"{record['name']}, {when(record['date'])}",
            "command": record["command"],
            **_about_machine(record.get("environment", {})),
            "report": str(report) if report.exists() else f"none yet: edgepress report {record['name']}",
        }
    )
    click.echo()
    show_table(
        ("stage", "made from", "precision", "time", "folder"),
        [
            (s["label"], s["input"] or "-", s["precision"], duration(s["seconds"]), s["folder"])
            for s in record["stages"]
        ],
        right=("time",),
    )
    if rows:
        click.echo()
        show(text_table(rows))


def _show_stage(folder: Path, as_json: bool) -> None:
    from edgepress.cli.targets import folder_bytes, shelf_of
    from edgepress.measure.rows import newest
    from edgepress.measure.tables import size_text

    shelf = shelf_of(folder)
    if not shelf.done:
        found = {"kind": "stage", "folder": str(folder), "done": False}
        if as_json:
            print_json(found)
        else:
            show_facts({"stage": folder.name, "state": "unfinished: run its recipe again, and it goes on from there"})
        return
    about, rows, network = shelf.about(), newest(shelf.rows()), _network(folder)
    if as_json:
        print_json({"kind": "stage", "folder": str(folder), "done": True, **about, **network, "rows": _plain(rows)})
        return
    show_facts(
        {
            "stage": f"{about['stage']}, {when(about['date'])}, {duration(about['seconds'])}",
            "folder": f"{folder} ({size_text(folder_bytes(folder))})",
            "fields": pairs(about["fields"]),
            "seed": str(about["seed"]),
            **{name: str(value) for name, value in network.items()},
            **_about_machine(about),
        }
    )
    _show_rows(rows)


def _network(folder: Path) -> dict[str, Any]:
    """Return what the network in a stage's folder is, by heading."""
    import json

    if (folder / "bundle").is_dir():
        return {"bundle": str(folder / "bundle")}
    path = folder / "structure.json"
    if not path.exists():
        return {}
    builder = json.loads(path.read_bytes()).get("builder", {})
    arguments = pairs(builder.get("arguments", {}))
    return {"network": f"{builder.get('name', '')}" + (f" ({arguments})" if arguments else "")}


def _show_bundle(folder: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from edgepress.measure.tables import size_text
    from edgepress.runtime.bundle import read_manifest

    manifest = read_manifest(folder)
    if as_json:
        print_json({"kind": "bundle", "folder": str(folder), **asdict(manifest)})
        return
    spec = manifest.input
    labels = ", ".join(manifest.labels[:10]) + (" ..." if len(manifest.labels) > 10 else "")
    files = ", ".join(f"{file.name} ({size_text(file.bytes)})" for file in manifest.files)
    show_facts(
        {
            "bundle": manifest.name,
            "task": f"{manifest.task}, {len(manifest.labels)} labels: {labels}",
            "input": f"{spec.width}x{spec.height} {spec.color}, {spec.resize}, mean {_numbers(spec.mean)}, "
            f"std {_numbers(spec.std)}",
            "runtime": f"{manifest.runtime}, {manifest.precision}",
            "files": files,
            "parity": pairs(manifest.parity),
            "made by": pairs({name: value for name, value in manifest.provenance.items() if name != "name"}),
            "key": manifest.key,
        }
    )


def _show_rows(rows: "Sequence[Row]") -> None:
    if not rows:
        click.echo("\nnot measured")
        return
    click.echo()
    show_table(
        ("metric", "value", "unit", "n", "measured on"),
        [(row.metric, _value(row.value), row.unit, f"{row.n:,}", _conditions(row)) for row in rows],
        right=("value", "n"),
    )


def _value(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def _conditions(row: "Row") -> str:
    threads = f"{row.threads} thread{'s' * (row.threads > 1)}" if row.threads else ""
    batch = f"batch {row.batch}" if row.batch and row.threads else ""
    return ", ".join(part for part in (row.split, threads, batch) if part) or "-"


def _about_machine(found: dict[str, Any]) -> dict[str, str]:
    return {name: str(found[name]) for name in ("machine", "versions") if found.get(name)}


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _plain(rows: "Sequence[Row]") -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(row) for row in rows]
