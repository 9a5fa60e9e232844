"""The command itself: which subcommands it has, and how it says what went wrong.

A subcommand is imported when it is asked for, and what it needs of the library when it runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from parapluie.cli import status
from parapluie.errors import ParapluieError

_SUBCOMMANDS = ("backends", "bench", "check", "config", "doctor", "map")  # each a module here that has a `command`


class Failure(click.ClickException):
    """Something that the user can mend: said in one line, without a traceback.

    Args: message (it goes to standard error, behind "parapluie: "), exit_code (one of `status`).
    """

    def __init__(self, message: str, exit_code: int = status.WRONG_INPUT) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click's own exceptions do it the same way

    def show(self, file: Any = None) -> None:
        click.echo(f"parapluie: {self.message}", file=file, err=file is None)


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _SUBCOMMANDS:
            return None
        command = import_module(f"parapluie.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(status.INTERRUPTED) from None  # click's own would say 1: something was found
        except ParapluieError as error:
            # Notes name plugins that are broken, and say where a setting comes from.
            notes = [note.removeprefix("parapluie: ") for note in getattr(error, "__notes__", ())]
            raise Failure("; ".join((str(error), *notes))) from error


@click.command(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="parapluie", prog_name="parapluie")
def program() -> None:
    """Run Python functions in parallel, on any engine, and look at what that takes.

    Exit status: 0 all went well; 1 some did not, or a mistake was found; 2 wrong arguments, settings or input;
    3 nothing went well; 130 interrupted.
    """
