"""`edgepress recipes`: the recipes that come with edgepress."""

from pathlib import Path

import click

from edgepress.cli.options import json_option
from edgepress.cli.output import note, print_json, show_table

SECTION = "Compress"


@click.group(no_args_is_help=True)
def command() -> None:
    """List, show or copy the shipped recipes."""


@command.command("ls")
@json_option
def list_recipes(as_json: bool) -> None:
    """List the shipped recipes."""
    from edgepress.cli.shipped import shipped_recipes, summary

    found = {name: summary(path) for name, path in shipped_recipes().items()}
    if as_json:
        print_json(found)
        return
    show_table(("recipe", "what it does"), found.items())
    note("\nedgepress run NAME runs one; edgepress recipes copy NAME gives you one to change")


@command.command("show")
@click.argument("name")
@json_option
def show_recipe(name: str, as_json: bool) -> None:
    """Print the recipe NAME; with --json all its fields, defaults written out."""
    from edgepress.cli.shipped import find_recipe

    path = find_recipe(name)
    if as_json:
        from edgepress.recipes.recipe import dump_recipe, read_recipe

        print_json(dump_recipe(read_recipe(path)))
        return
    click.echo(path.read_text(encoding="utf-8"), nl=False)


@command.command("copy")
@click.argument("name")
@click.argument("destination", required=False, type=click.Path(path_type=Path), metavar="[DEST]")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def copy_recipe(name: str, destination: Path | None, force: bool) -> None:
    """Copy the recipe NAME to DEST, a file or a folder (the current one if not given)."""
    from edgepress.cli.shipped import find_shipped
    from edgepress.core.errors import ConfigError
    from edgepress.core.files import write_bytes

    source = find_shipped(name)
    target = destination or Path()
    if target.is_dir():
        target = target / source.name
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already; name another file, or replace it with --force")
    write_bytes(target, source.read_bytes())
    click.echo(f"{target}")
    note(f"change it, then: edgepress run {target}")
