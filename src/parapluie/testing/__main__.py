"""`python -m parapluie.testing claims|faults NAME...`: what backends claim, or what becomes of faults there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from parapluie import registry
from parapluie.errors import ParapluieError
from parapluie.testing import tables


def main(arguments: list[str] | None = None) -> int:
    """Print a table, or write it into a page; return the exit status: 1 if a cell says `hang` or `lost`."""
    parser = argparse.ArgumentParser(prog="python -m parapluie.testing", description=__doc__)
    parser.add_argument("table", choices=["claims", "faults"])
    parser.add_argument("names", metavar="NAME", nargs="+", help="a backend, built in or a plugin's")
    parser.add_argument(
        "--into", type=Path, metavar="PAGE", help="write it between the marks of this command in a page"
    )
    asked = parser.parse_args(arguments)
    try:
        for name in asked.names:
            registry.find(name)
        page = None if asked.into is None else tables.Page(asked.into, asked.table, asked.names)
    except (ParapluieError, OSError, ValueError) as error:
        parser.error(str(error))
    text = (tables.claims if asked.table == "claims" else tables.faults)(asked.names)
    if page is None:
        sys.stdout.write(text)
    else:
        page.write(text)
    return int("| hang" in text or "| lost" in text)


if __name__ == "__main__":
    sys.exit(main())
