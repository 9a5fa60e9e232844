"""The file of a journal: an SQLite database that one run has to itself.

It is written ahead (WAL) and synchronised at each commit, so that what is committed survives a power cut. The lock is
SQLite's own, which goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FORMAT = 1
_APPLICATION = 0x70617261  # "para": how a journal is told from other databases
_PATIENCE = 2.0  # seconds that an earlier run of this program may take to let go of the file
_PAGE_ITEMS = 1000
_PAGE_BYTES = 1024 * 1024

_TABLES = (
    "CREATE TABLE header (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # What is read of all items comes before what may be large.
    """CREATE TABLE items (
        place INTEGER PRIMARY KEY, digest BLOB NOT NULL, failed INTEGER NOT NULL, attempts INTEGER NOT NULL,
        seconds REAL NOT NULL, data BLOB NOT NULL
    )""",
)
_WRITE = "INSERT OR REPLACE INTO items (place, digest, failed, attempts, seconds, data) VALUES (?, ?, ?, ?, ?, ?)"


class Row(NamedTuple):
    """An item that is answered: its place in the input, what it was, how it ended, and the sealed value or error."""

    place: int
    digest: bytes
    failed: bool
    attempts: int
    seconds: float
    data: bytes


class Mark(NamedTuple):
    """The same without what may be large."""

    place: int
    digest: bytes
    failed: bool


class Store:
    """An open journal. Any thread.

    Args:
        path: of the file. create: make it, if it is not there.

    Raises:
        JournalError: if it cannot be opened, is in use, or is no journal. So do all methods if the file fails them.
    """

    def __init__(self, path: str, *, create: bool = True) -> None:
        self.path = path
        self._lock = threading.Lock()  # held for one transaction
        if not create and not os.path.exists(path):  # noqa: PTH110 - sqlite3 takes paths as strings, too
            raise JournalError(path, "does not exist")
        with self._telling("be opened"):
            self._base = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            with self._telling("be opened"):
                self._prepare()
        except BaseException:
            self._base.close()
            raise
        self.most_bytes = self._base.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) - 1024

    def _prepare(self) -> None:
        run = self._base.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA fullfsync = ON")  # macOS needs more than fsync to get past the drive's cache
        run("PRAGMA checkpoint_fullfsync = ON")
        with self._transaction():  # which takes the lock, and keeps it
            ((application,),) = run("PRAGMA application_id")
            ((found,),) = run("PRAGMA user_version")
            empty = not run("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
            if empty and not application:
                run(f"PRAGMA application_id = {_APPLICATION}")
                run(f"PRAGMA user_version = {FORMAT}")
                for table in _TABLES:
                    run(table)
            elif application != _APPLICATION:
                raise JournalError(self.path, "is a database of something else, not a journal")
            elif found != FORMAT:
                raise JournalError(self.path, f"has format {found}, and this version of parapluie knows {FORMAT}")

    def header(self) -> dict[str, str]:
        """Return what the journal says of itself; empty if it is new."""
        with self._lock, self._telling("be read"):
            return dict(self._base.execute("SELECT name, value FROM header"))

    def set_header(self, header: Mapping[str, str]) -> None:
        with self._lock, self._telling("be written"), self._transaction():
            self._base.executemany("INSERT OR REPLACE INTO header (name, value) VALUES (?, ?)", header.items())

    def write(self, rows: Iterable[Row]) -> None:
        """Record items, all or none; when this returns they survive a power cut."""
        with self._lock, self._telling("be written"), self._transaction():
            self._base.executemany(_WRITE, rows)

    def cut(self, place: int) -> None:
        """Forget all items from a place on."""
        with self._lock, self._telling("be written"), self._transaction():
            self._base.execute("DELETE FROM items WHERE place >= ?", (place,))

    def marks(self, first: int) -> list[Mark]:
        """Return what is recorded from a place on: some of the items, in order; none only if there are none."""
        with self._lock, self._telling("be read"):
            found = self._base.execute(
                "SELECT place, digest, failed FROM items WHERE place >= ? ORDER BY place LIMIT ?", (first, _PAGE_ITEMS)
            )
            return [Mark(place, digest, bool(failed)) for place, digest, failed in found]

    def rows(self, first: int, stop: int | None = None) -> list[Row]:
        """Return the items from a place on, in order: as many as make about a megabyte."""
        rows: list[Row] = []
        size = 0
        with self._lock, self._telling("be read"):
            found = self._base.execute(
                "SELECT place, digest, failed, attempts, seconds, data FROM items "
                "WHERE place >= ? AND (? IS NULL OR place < ?) ORDER BY place LIMIT ?",
                (first, stop, stop, _PAGE_ITEMS),
            )
            for place, digest, failed, attempts, seconds, data in found:
                rows.append(Row(place, digest, bool(failed), attempts, seconds, data))
                size += len(data)
                if size > _PAGE_BYTES:
                    break
            found.close()
        return rows

    def close(self) -> None:
        """Let go of the file. What was committed is in it."""
        with self._lock, self._telling("be closed"):
            self._base.close()

    def __del__(self) -> None:
        base = getattr(self, "_base", None)
        if base is not None:  # of a map that nobody has ended
            base.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._base.execute("COMMIT")
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Say in words what SQLite found wrong."""
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(self.path, _problem(what, error)) from error


def _problem(what: str, error: sqlite3.Error) -> str:
    name: Any = getattr(error, "sqlite_errorname", "")  # sqlite3's own errors, such as of a closed file, have none
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "is in use by another run; wait until that has ended, or name another file"
    if name.startswith("SQLITE_NOTADB"):
        return "is not a journal, nor any SQLite file"
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return (
            f"cannot {what}: {error}. What is recorded is kept: make room, or mend the disk, and start the same again"
        )
    return f"cannot {what}: {error}"
