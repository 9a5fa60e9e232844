"""`parapluie bench`: the benchmark, whose arguments are its own."""

from __future__ import annotations

import click


@click.command(
    short_help="Measure every backend beside the pools of others.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Measure every backend beside the pools that you would use instead (as python -m parapluie.bench)."""
    from parapluie.bench import main

    context.exit(main(arguments, prog=context.command_path))
