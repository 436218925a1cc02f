"""The command group: it finds the commands in this folder and turns errors into one message and an exit code.

A module of this folder is a command where it defines `command` (a click command) and `SECTION`, the heading under which
`edgepress --help` lists it. Its name is the module's name.
"""

import importlib
import os
import pkgutil
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import click

from edgepress.core.errors import ConfigError, EdgepressError, suggest

SECTIONS = ("Compress", "Results", "Bundles", "Machine")

INTERRUPTED, PIPE_CLOSED = 130, 141
"""What a shell reports for a process ended by Ctrl-C, and by a reader such as `head` that went away."""

EPILOG = """\b
Results go to standard output, everything else to standard error.
--json prints plain JSON and nothing else.

\b
Exit codes:
  0    done
  1    failed for another reason (a full disk, a folder without permission)
  2    wrong usage: an option, a recipe, a name
  3    data missing, damaged or too large
  4    bundle or saved model damaged or unsafe
  5    an extra is not installed
  6    training failed (the loss is no longer finite)
  7    the exported file does not compute what the network computes
  8    another process is working in the same folder
  130  stopped by Ctrl-C; `edgepress run` goes on where it was

EDGEPRESS_DATA names the folder of data sets, EDGEPRESS_CACHE that of decoded
ones; EDGEPRESS_DEBUG=1 shows where an error comes from.
"""


class App(click.Group):
    """The group of all commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return [name for name in _module_names() if hasattr(_module(name), "command")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command `cmd_name`, importing its file only."""
        return getattr(_module(cmd_name), "command", None) if cmd_name in _module_names() else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` name; a misspelt one is answered with the nearest."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            names = self.list_commands(ctx)
            raise click.UsageError(f"there is no command {args[0]!r}{suggest(args[0], names, most=20)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        modules = {name: _module(name) for name in self.list_commands(ctx)}
        for section in SECTIONS:
            lines = [
                (name, module.command.get_short_help_str(limit=66))
                for name, module in modules.items()
                if section == module.SECTION
            ]
            with formatter.section(section):
                formatter.write_dl(lines, col_spacing=3)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:
        """Run a command and end the process with its exit code."""
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name, standalone_mode=False, **extra)
        warnings.formatwarning = _format_warning
        try:
            code = super().main(args, prog_name or "edgepress", standalone_mode=False, **extra)
            sys.stdout.flush()
        except BrokenPipeError:
            _leave_closed_pipe()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("Stopped.", err=True)
            sys.exit(INTERRUPTED)
        except EdgepressError as error:
            if os.environ.get("EDGEPRESS_DEBUG", "") not in ("", "0"):
                traceback.print_exc()
            click.echo(message(error), err=True)
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would report a closed pipe as a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            _leave_closed_pipe()


def message(error: EdgepressError) -> str:
    """Return what is shown of an error: one paragraph, or one line per problem."""
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    if len(problems) == 1:
        return f"Error: {problems[0]}"
    return "\n".join([f"Error: {len(problems)} problems", *(f"  - {problem}" for problem in problems)])


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning of ours as one paragraph, one of another library with the place it comes from."""
    where = "" if category.__module__.startswith("edgepress.") else f"{filename}:{lineno}: {category.__name__}: "
    return f"Warning: {where}{message}\n"


def _leave_closed_pipe() -> NoReturn:
    # Python flushes standard output once more when it ends, and would complain about it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(PIPE_CLOSED)


def _module_names() -> list[str]:
    return sorted(info.name for info in pkgutil.iter_modules([str(Path(__file__).parent)]) if info.name != "__main__")


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"edgepress.cli.{name}")


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"edgepress {importlib.import_module('edgepress').__version__}")
        ctx.exit()


_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


@click.group(cls=App, context_settings=_SETTINGS, epilog=EPILOG, no_args_is_help=True)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def app() -> None:
    """Make neural networks small and fast for edge devices, and prove it on the exported file.

    Begin with `edgepress demo`, then `edgepress recipes ls`.
    """
