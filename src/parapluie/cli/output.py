"""What the command prints: laid out for a person at a terminal, plain text elsewhere, JSON where it is asked for."""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence


def console(*, stderr: bool = False) -> Console:
    """Return what prints in colour to a terminal. Elsewhere use plain text: it would break lines at 80 columns."""
    return Console(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)


def print_json(data: Any) -> None:
    """Print for a program: one JSON document, indented; in ASCII where the output is not UTF-8, as JSON has to be."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    click.echo(json.dumps(data, indent=2, ensure_ascii=encoding != "utf8", default=str))


def print_title(text: str) -> None:
    """Print a heading."""
    print_line(text, style="bold")


def print_line(text: str, *, indent: int = 0, style: str = "") -> None:
    """Print a sentence: broken between words at a terminal, else on one line."""
    out = console()
    if out.is_terminal:
        out.print(Padding(Text(text, style=style), (0, 0, 0, indent)))
    else:
        click.echo(" " * indent + text)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, indent: int = 0, styles: Sequence[str] = ()
) -> None:
    """Print a table: fitted to a terminal's width, else as plain columns of which no cell is broken or cut.

    Args:
        columns: their headings; none are printed if all are empty.
        indent: spaces before each line.
        styles: a rich style for each column.
    """
    out = console()
    headed = any(columns)
    if out.is_terminal:
        table = Table(box=None, pad_edge=False, header_style="bold", show_header=headed, padding=(0, 2, 0, 0))
        for column, style in zip_longest(columns, styles, fillvalue=""):
            table.add_column(column, style=style, overflow="fold")
        for row in rows:
            table.add_row(*row)
        out.print(Padding(table, (0, 0, 0, indent)))
        return
    lines = [columns, *rows] if headed else list(rows)
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(columns))] if lines else []
    for line in lines:
        cells = [cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
        click.echo((" " * indent + "  ".join(cells)).rstrip())
