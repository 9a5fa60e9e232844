"""What users say about a journal, and what is in one."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from parapluie.errors import ConfigError, JournalError, JournalMismatchError
from parapluie.journal.sealing import fingerprint, name_of, open_sealed
from parapluie.journal.store import Row, Store
from parapluie.mapping import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Journal:
    """The file that makes a `map` durable, and how it is used: `executor.map(..., journal=Journal(path, ...))`.

    Args:
        path: of the file, which is made if it is not there. On a local disk, not a network's: it is locked.
        retry_failed: run items again whose error is recorded; else their errors are given again.
        accept_changed: use a journal of another function or of other input all the same: items that are what they
            were keep their answers, others run, and answers to items that are gone are forgotten.
        key: from an item (a tuple, where a map has several inputs) to something plain that tells it from others; for
            items that are large, or whose pickle differs from run to run.

    Raises:
        ConfigError: if an argument is of the wrong type.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retry_failed: bool = False,
        accept_changed: bool = False,
        key: Callable[[Any], object] | None = None,
    ) -> None:
        try:
            self.path = os.fsdecode(path)
        except TypeError:
            self.path = ""
        if not self.path:
            raise ConfigError(f"journal={path!r} is neither a path nor a Journal")
        if key is not None and not callable(key):
            raise ConfigError(f"Journal(key={key!r}) cannot be called")
        self.retry_failed, self.accept_changed, self.key = bool(retry_failed), bool(accept_changed), key

    def __repr__(self) -> str:
        return f"Journal({self.path!r}, retry_failed={self.retry_failed}, accept_changed={self.accept_changed})"

    def outcomes(self) -> Iterator[Outcome[Any]]:
        """Yield what is recorded, an `Outcome` for each item, in the order of the input.

        Raises:
            JournalError: if there is no such journal, or if it is in use.
        """
        store = Store(self.path, create=False)
        try:
            for row in rows_of(store, 0):
                yield outcome_of(row, self.path)
        finally:
            store.close()

    # ---- for a map ----------------------------------------------------------------------------------------------

    def open_for(self, function: Callable[..., Any]) -> Store:
        """Open the file for a map of a function.

        Raises:
            JournalMismatchError: if it was made by another one.
        """
        store = Store(self.path)
        try:
            self._check(store, function)
        except BaseException:
            store.close()
            raise
        return store

    def _check(self, store: Store, function: Callable[..., Any]) -> None:
        name = name_of(function)
        found = store.header().get("function")
        if found not in (None, name) and not self.accept_changed:
            raise JournalMismatchError(
                self.path, f"was made by {found}, not by {name}; name another file, or accept what has changed"
            )
        if found != name:
            python = ".".join(map(str, sys.version_info[:3]))
            store.set_header({"function": name, "python": python, "parapluie": version("parapluie")})

    def digest(self, item: Any) -> bytes:
        """Return what tells an item from others, in any run."""
        return fingerprint(item if self.key is None else self.key(item))


def as_journal(value: object) -> Journal:
    """Take what `journal=` may be."""
    return value if isinstance(value, Journal) else Journal(value)  # type: ignore[arg-type]  # it refuses what is none


def rows_of(store: Store, first: int, stop: int | None = None) -> Iterator[Row]:
    """Yield the items from a place on, in order.

    Raises:
        JournalError: if one before stop is not there.
    """
    while stop is None or first < stop:
        rows = store.rows(first, stop)
        if not rows and stop is None:
            return
        for row in rows:
            if stop is not None and row.place != first:
                break
            first = row.place + 1
            yield row
        else:
            if rows:
                continue
        raise JournalError(store.path, f"has lost item {first}: somebody else has changed it")


def outcome_of(row: Row, path: str) -> Outcome[Any]:
    """Return what a map gives for a row."""
    value, error = open_sealed(row.data, path, row.place, failed=row.failed)
    return Outcome(row.place, value, error, row.attempts, row.seconds)
