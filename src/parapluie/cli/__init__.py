"""The command `parapluie`, one file for each subcommand."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Run the command and exit with its status."""
    _show_what_cannot_be_encoded()
    try:
        from parapluie.cli.program import program

        program.main(prog_name="parapluie", windows_expand_args=False)  # patterns are for `map --glob`
    except ModuleNotFoundError as error:  # a subcommand is imported when it is asked for
        module = (error.name or "").partition(".")[0]
        if module not in {"click", "rich"}:
            raise
        sys.exit(f"parapluie: the command needs {module}, which is not installed; install parapluie[cli]")


def _show_what_cannot_be_encoded() -> None:
    """Have characters that a console of an old code page does not know printed by their number, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
