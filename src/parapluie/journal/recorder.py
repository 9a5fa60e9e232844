"""Records what a map answers, in a thread of its own, many items to a transaction.

    replies ─ put ─▶ queue ─▶ the recorder's thread: seal, commit ─▶ recorded: the consumer may have them

It commits ten times a second, or when many items wait, or when the map cannot go on until the consumer has what waits.
"""

from __future__ import annotations

import queue
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from parapluie.errors import JournalError
from parapluie.journal.sealing import seal_failure, seal_value
from parapluie.journal.store import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from parapluie.journal.replay import Place
    from parapluie.journal.store import Store
    from parapluie.mapping import Outcome

_SECONDS = 0.1  # between two commits, unless
_ITEMS = 256  # wait
_LOOK_SECONDS = 1.0  # after which the thread looks whether it still is of use


class _Word:
    """Something else than an answer in the recorder's queue."""


_NOW, _END = _Word(), _Word()


class Recorder:
    """The thread that writes a journal.

    Args:
        place: finds an item's place in the input, by its number in the map.
        failed: told what cannot be recorded: an item's error, by its number. broke: told that the journal cannot be
            written. changed: told whenever something was recorded. ended: told at the end, and not to use the journal
            before. over: says that no answer comes any more, whether or not `finish` was called.

    Attributes:
        waiting: the numbers of items that are answered and not recorded yet.
        error: why the journal cannot be written.
    """

    def __init__(
        self,
        store: Store,
        *,
        place: Callable[[int], Place],
        failed: Callable[[int, BaseException], None],
        broke: Callable[[BaseException], None],
        changed: Callable[[], None],
        ended: Callable[[], None],
        over: Callable[[], bool],
    ) -> None:
        self._store, self._place = store, place
        self._failed, self._broke, self._changed = failed, broke, changed
        self._ended, self._over = ended, over
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.waiting: dict[int, None] = {}  # its single operations are atomic
        self.error: BaseException | None = None
        self._asked = 0  # how many were waiting when the consumer last asked for a commit
        # Not a daemon: what is answered is recorded before the interpreter ends.
        self._thread = threading.Thread(target=self._run, name="parapluie-journal")

    def start(self) -> None:
        self._thread.start()

    def put(self, outcomes: Iterable[Outcome[Any]], numbers: Iterable[int]) -> None:
        """Take the outcomes of items of these numbers in the map. Any thread; waits for nothing, iterates later."""
        self.waiting.update(dict.fromkeys(numbers))
        self._queue.put(outcomes)

    def commit_soon(self) -> None:
        """Have what waits recorded now."""
        if len(self.waiting) != self._asked:
            self._asked = len(self.waiting)
            self._queue.put(_NOW)

    def finish(self) -> None:
        """Record what is left and end: there are no more answers."""
        self._queue.put(_END)

    def wait(self) -> None:
        """Wait until all is recorded."""
        while self._thread.is_alive():
            self._thread.join(1.0)

    # ---- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        last = False
        while not last:
            answers, last = self._gather()
            numbers: list[int] = []
            try:
                self._record(answers, numbers)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the map must end with it and not wait
                if self.error is None:
                    self.error = error
                    self._broke(error)
            if self.error is None:  # else nobody may have them: what the consumer waits for ends with the error
                for number in numbers:
                    del self.waiting[number]
            self._asked = 0
            answers.clear()
            self._changed()
        self._ended()

    def _gather(self) -> tuple[list[Iterable[Outcome[Any]]], bool]:
        """Wait for answers that are worth a transaction; say whether they are the last."""
        found = [self._first()]
        end = monotonic() + _SECONDS
        count = 0
        while not isinstance(found[-1], _Word) and count < _ITEMS:
            count += 1
            try:
                found.append(self._queue.get(timeout=max(0.0, end - monotonic())))
            except queue.Empty:
                break
        return [one for one in found if not isinstance(one, _Word)], found[-1] is _END

    def _first(self) -> Any:
        while True:
            try:
                return self._queue.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                if self._over():
                    return _END

    def _record(self, answers: list[Iterable[Outcome[Any]]], numbers: list[int]) -> None:
        rows = []
        for outcomes in answers:
            for outcome in outcomes:
                numbers.append(outcome.index)
                rows.append(self._row(outcome))
        if rows and self.error is None:
            self._store.write(rows)

    def _row(self, outcome: Outcome[Any]) -> Row:
        place, digest = self._place(outcome.index)
        error = outcome.error
        data = b""
        if error is None:
            try:
                data = seal_value(outcome.value, self._store.path, place, self._store.most_bytes)
            except JournalError as problem:
                error = problem
                self._failed(outcome.index, problem)
        if error is not None:
            data = seal_failure(error)
        return Row(place, digest, error is not None, outcome.attempts, outcome.seconds, data)
