"""The command line: one file per command, found in this folder; whatever is heavy is imported when a command runs."""

__all__ = ["main"]


def main() -> None:
    """Run the command that the process was called with, and end the process with its exit code."""
    from edgepress.cli.app import app

    app()
