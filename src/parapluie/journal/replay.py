"""Leaves out of a map's input what its journal holds."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from parapluie.errors import JournalMismatchError
from parapluie.journal.settings import outcome_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from parapluie.journal.settings import Journal
    from parapluie.journal.store import Mark, Store
    from parapluie.mapping import Outcome


class Place(NamedTuple):
    """Where an item that runs is in the input, and its digest."""

    number: int
    digest: bytes


class Replay:
    """Reads the input and compares it with the journal.

    Attributes:
        read: how many items of the input were read. restored, failed: how many are recorded, and of these failed.
        places: of the items that run and that nobody has taken yet, by their number in the map.
        ranges: of recorded items that nobody has taken yet, in order.
    """

    def __init__(self, journal: Journal, store: Store, left_out: Callable[[], None]) -> None:
        self._journal, self._store, self._left_out = journal, store, left_out
        self._marks: Iterator[Mark] = self._all_marks()
        self._next = next(self._marks, None)
        self.read = self.restored = self.failed = 0
        self.places: dict[int, Place] = {}
        self.ranges: deque[range] = deque()

    def _all_marks(self) -> Iterator[Mark]:
        first = 0
        while marks := self._store.marks(first):
            yield from marks
            first = marks[-1].place + 1

    def over(self, source: Iterable[Any]) -> Iterator[Any]:
        """Yield the items that are to run.

        Raises:
            JournalMismatchError: if an item is not what is recorded, or if the input ends too early.
        """
        runs = begin = 0
        for item in source:
            place = Place(self.read, self._journal.digest(item))
            mark = self._mark(place.number)
            if mark is None or not self._holds(mark, place):
                self._close(begin)
                begin = place.number + 1
                self.places[runs] = place
                runs += 1
                self.read += 1
                yield item
            else:
                self.restored += 1
                self.failed += mark.failed
                self.read += 1
                self._left_out()
        self._close(begin)
        self._end()

    def _close(self, begin: int) -> None:
        if begin < self.read:
            self.ranges.append(range(begin, self.read))

    def _mark(self, number: int) -> Mark | None:
        if self._next is None or self._next.place != number:
            return None
        mark, self._next = self._next, next(self._marks, None)
        return mark

    def _holds(self, mark: Mark, place: Place) -> bool:
        if mark.digest == place.digest:
            return not (mark.failed and self._journal.retry_failed)
        if self._journal.accept_changed:
            return False
        raise JournalMismatchError(
            self._store.path,
            f"is of other input: item {place.number} is not what it was; name another file, or accept what has changed",
        )

    def _end(self) -> None:
        if self._next is None:
            return
        if self._journal.accept_changed:
            self._store.cut(self.read)
            return
        raise JournalMismatchError(
            self._store.path,
            f"is of other input: it holds item {self._next.place}, and the input has {self.read} items; name another "
            "file, or accept what has changed",
        )

    # ---- for the consumer -----------------------------------------------------------------------------------------

    def restored_outcomes(self, first: int | None) -> Iterator[Outcome[Any]]:
        """Yield the recorded outcomes that may be given: from a place on without a gap; all if it is None."""
        while self.ranges and first in (None, self.ranges[0].start):
            found = self.ranges.popleft()
            for row in rows_of(self._store, found.start, found.stop):
                yield outcome_of(row, self._store.path)
            first = None if first is None else found.stop
