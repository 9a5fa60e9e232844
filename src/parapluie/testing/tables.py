"""The tables of the docs: what backends claim, and what becomes of tasks when a fault is injected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parapluie import registry
from parapluie.facts import FACTS
from parapluie.testing.faults import FAULTS, Fault
from parapluie.testing.fixtures import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

BUILT_IN = ("serial", "thread", "process", "manager", "pool", "futures")  # in the order of the docs


class Page:
    """A page of docs with a table between two marks, of which the first one is the command that makes it.

    Raises:
        ValueError: if the page has no such marks.
    """

    def __init__(self, path: Path, table: str, names: Sequence[str]) -> None:
        self._path = path
        begin = f"<!-- generated: python -m parapluie.testing {table} {' '.join(names)} -->\n"
        self._before, mark, rest = path.read_text(encoding="utf-8").partition(begin)
        self.text, self._end, self._after = rest.partition("<!-- end -->\n")
        if not mark or not self._end:
            raise ValueError(f"{path} has no lines {begin.strip()!r} and '<!-- end -->'")
        self._before += mark

    def write(self, text: str) -> None:
        """Put a table there."""
        self._path.write_text(f"{self._before}\n{text}\n{self._end}{self._after}", encoding="utf-8")


def claims(names: Sequence[str]) -> str:
    """Return what backends claim, with their default options on this platform, as a Markdown table."""
    infos = [registry.find(name) for name in names]
    found = [info.capabilities(None) for info in infos]
    facts = ([FACTS[fact], *("yes" if getattr(all_of, fact) else "" for all_of in found)] for fact in FACTS)
    summaries = "".join(f"- `{info.name}`: {info.summary}\n" for info in infos)
    return f"{summaries}\n{_markdown(['', *(f'`{name}`' for name in names)], facts)}"


def faults(names: Sequence[str]) -> str:
    """Inject every fault on backends, with their default start method; return what was seen, as a Markdown table.

    A cell has what the task at fault ended with. It says `hang` if that did not end, and `lost` if another task did not
    end as it should. Blocking: a second or so for each cell.
    """
    rows = [Row(name, {}, registry.find(name).capabilities(None)) for name in names]
    seen = ([fault.what, *(_cell(fault, row) for row in rows)] for fault in FAULTS)
    return _markdown(["", *(f"`{name}`" for name in names)], seen)


def _cell(fault: Fault, row: Row) -> str:
    if not fault.concerns(row):
        return fault.otherwise
    try:
        ending = fault.see(row)
    except AssertionError as error:
        return f"lost: {error}"
    if ending == "hang":
        return ending
    return f"`{ending}`" if ending.endswith(("Error", "Exit")) else "its result"


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *lines))
