"""`edgepress unpack`: the plain ONNX file of a bundle, for other tools."""

from pathlib import Path

import click

from edgepress.cli.options import runs_option

SECTION = "Bundles"


@click.command()
@click.argument("bundle")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE where it is there.")
@runs_option
def command(bundle: str, file: Path, force: bool, runs: Path) -> None:
    """Write the plain ONNX file of BUNDLE to FILE.

    It has int8 weights, needs no other file and computes what the bundle computes. Needs the base install only.
    """
    from edgepress.cli.targets import load_program
    from edgepress.core.errors import ConfigError
    from edgepress.core.files import write_bytes
    from edgepress.runtime.onnx_wire import refuse_external_data
    from edgepress.runtime.packed import onnx_file

    if file.exists() and not force:
        raise ConfigError(f"{file} is there already; name another file, or give --force to replace it")
    program, _ = load_program(bundle, runs)
    data = onnx_file(program)
    refuse_external_data(data, str(file))
    write_bytes(file, data)
    packed = sum(len(content) for content in program.files.values())
    click.echo(f"{file}: {len(data):,} bytes, {packed:,} in the bundle")
