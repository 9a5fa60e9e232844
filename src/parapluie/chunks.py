"""A chunk of `map`: several items that travel as one call, each with its own fate."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from threading import current_thread
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Any

from parapluie import call_format
from parapluie.backend import Begun, Call, Loss
from parapluie.exits import may_be_the_programs
from parapluie.replies import Failure, annotate, open_failure, open_value
from parapluie.words import describe
from parapluie.work import Work, since_epoch

if TYPE_CHECKING:
    from parapluie.mapping import MapRun
    from parapluie.observers import Observers
    from parapluie.policies.retry import Attempts

MISSING = object()  # the result of an item that is not answered
_SMALL = 256  # bytes that a result may have to be kept a little longer than needed


class Sizer:
    """Chooses how many items make a chunk: some milliseconds of work, learned from the replies.

    So chunking costs little, and no item of a millisecond or more waits long behind another one: it travels alone, or
    else the backend takes it back if that one turns out long. Chunks are kept small in bytes as well, so that what is
    read ahead is bounded, and get shorter towards the end of an input whose length is known, so that all workers end
    together.

    Attributes: target: seconds of work in a chunk.
    """

    TARGET_SECONDS = 0.001
    LONG_SECONDS = 0.032  # where what has not begun of a chunk can be taken back
    LEAST_SECONDS = 0.0005  # of work in a chunk near the end of the input
    MOST_ITEMS = 20_000
    MOST_BYTES = 128 * 1024  # what a pipe takes at once
    GROWTH = 8  # a chunk is at most so much longer than the one that was measured

    def __init__(self, fixed: int | None, target: float = TARGET_SECONDS, workers: int = 1) -> None:
        self._fixed, self._target, self._workers = fixed, target, workers
        self._items = fixed or 1
        self._seconds: float | None = None  # of one item
        self._bytes = 0.0  # of one item, pickled

    def next(self, left: int | None = None) -> int:
        """Return the number of items for the next chunk; left: of the input, if that is known."""
        if left is None or self._fixed is not None or self._seconds is None:
            return self._items
        share = max(-(-left // (2 * self._workers)), int(self.LEAST_SECONDS / self._seconds), 1)
        return min(self._items, share)

    def parts(self, items: int) -> int:
        """Return into how many parts to divide items that are taken back, for as many workers."""
        seconds = self._target if self._seconds is None else items * self._seconds
        return max(1, min(self._workers, items, round(seconds / self.TARGET_SECONDS)))

    def note_bytes(self, items: int, size: int) -> None:
        """Learn how large items are."""
        self._bytes = max(size / items, 0.5 * self._bytes)

    def note_seconds(self, items: int, seconds: float) -> None:
        """Learn how long items take; a slow one counts at once, fast ones by and by."""
        if items < 1:
            return
        each = max(seconds / items, 1e-9)
        known = self._seconds
        self._seconds = each if known is None or each > known else 0.6 * known + 0.4 * each
        if self._fixed is not None:
            return
        wanted = min(self._target / self._seconds, self.MOST_ITEMS, self.GROWTH * self._items)
        if self._bytes:
            wanted = min(wanted, self.MOST_BYTES / self._bytes)
        self._items = max(1, int(wanted))


class Chunk:
    """Neighbouring items of a map.

    Attributes:
        first: the number of its first item in the map. count: how many.
        results: a value, a `Failure` or MISSING for each item; emptied by the consumer.
        left: how many are MISSING. failures: whether any is a Failure.
        small: whether all results are small numbers, strings and the like.
        columns: the items, as lists of first arguments, second arguments and so on, where memory is not isolated.
        seconds: for each item, where somebody wants to know. books: of items that failed, for retries.
    """

    __slots__ = (
        "books", "buffers", "columns", "count", "failures", "first", "left", "payload", "results", "run", "seconds",
        "size", "small", "started",
    )  # fmt: skip

    def __init__(self, run: MapRun, first: int, count: int) -> None:
        self.run, self.first, self.count = run, first, count
        self.results: list[Any] = [MISSING] * count
        self.left = count
        self.failures = False
        self.small = True
        self.columns: Sequence[Sequence[Any]] | None = None
        self.payload: bytes | None = None
        self.buffers: Sequence[Any] = ()
        self.size = 0  # in bytes, of what travels
        self.seconds: dict[int, float] = {}
        self.books: dict[int, Attempts] = {}
        self.started = monotonic()

    def settle(
        self, first: int, values: Sequence[Any], *, failures: bool = False, part: ChunkPart | None = None
    ) -> None:
        """Note the results of neighbouring items; part: that they were of, unless they were never sent."""
        if self.run.watched:
            self.run.watch(self, first, values, failures=failures)
        if failures and self.run.inside is not None and self.run.failure is None:
            self.run.failure = values[0].error
        if self.run.dispatcher.observers is not None:
            self._tell_done(self.run.dispatcher.observers, first, values, part)
        if len(values) == self.count and type(values) is list:
            self.results = values
        else:
            self.results[first : first + len(values)] = values
        self.failures = self.failures or failures
        self.left -= len(values)
        if not self.left:
            self.payload, self.columns, self.buffers = None, None, ()
        self.run.progress(self)

    def _tell_done(self, observers: Observers, first: int, values: Sequence[Any], part: ChunkPart | None) -> None:
        for item, value in enumerate(values, first):
            task_id, book = self.item_id(item), self.books.get(item)
            error = value.error if type(value) is Failure else None
            if part is None:  # it cannot be pickled
                observers.submitted(task_id)
                observers.done(task_id, 0, None, error)
                continue
            tries, cancelled = 0 if book is None else book.tries, isinstance(error, CancelledError)
            if error is None:
                tries += 1
            elif part.ran_in is not None and not cancelled:
                tries = max(1, tries)
            observers.done(task_id, tries, part.ran_in, error, cancelled=cancelled)

    def rest(self, item: int) -> Iterable[Any]:
        """Return the results of a complete chunk, from an item on, for somebody who then has them all to himself."""
        results, self.results = self.results, []
        if item:
            del results[:item]
        return results if self.small else handing_over(results)

    def item_id(self, item: int) -> str:
        """Return how messages call an item."""
        return f"{self.run.name}[{self.first + item}]"


def handing_over(results: list[Any]) -> Iterator[Any]:
    """Yield results and keep no reference to those that were yielded: they may be large."""
    results.reverse()
    while results:
        yield results.pop()


class ChunkPart(Work):
    """What is dispatched of a chunk at a time: all of it at first, later what is to be run again.

    Attributes:
        select: its items, as ranges; answered: the ranges of those that are answered; left: how many are not.
        cut: the call ends before some of its items, which are not of this part any more.
        ran_in: the worker that answered last, and elapsed: the seconds that it has accounted for; for observers.
    """

    cut = False
    ran_in: str | None = None
    elapsed = 0.0

    def __init__(self, chunk: Chunk, select: tuple[range, ...] | None = None) -> None:
        super().__init__(chunk.run.dispatcher, chunk.run.options)
        self.inside = chunk.run.inside
        self.chunk = chunk
        self.select = select
        self.left = chunk.count if select is None else sum(map(len, select))
        self.answered: list[range] = []

    def belongs_to(self, run: object) -> bool:
        return self.chunk.run is run

    def tell_submitted(self, observers: Observers) -> None:
        for item in self._items():
            observers.submitted(self.chunk.item_id(item))

    def named(self, item: int) -> tuple[int | str, int]:
        book = self.chunk.books.get(item)
        return self.chunk.item_id(item), 1 if book is None else book.tries + 1

    def open_items(self) -> int:
        return self.left

    def call(self, call_id: int) -> Call:
        self.call_id = call_id
        chunk = self.chunk
        local: Callable[[], None] | None = self.run_here if chunk.payload is None else None
        return Call(call_id, chunk.payload, chunk.buffers, local, chunk.count, self.select, self.options)

    # ---- answers ----------------------------------------------------------------------------------------------

    def run_here(self) -> None:
        """Run in this thread, which shares the parent's memory, and answer."""
        chunk, call_id = self.chunk, self.call_id
        columns, function = chunk.columns, chunk.run.function
        if columns is None:
            return
        start = perf_counter()
        outcomes: list[tuple[int, Any]] = []
        observers = self.dispatcher.observers
        self.ran_in = current_thread().name
        for part in self.select or (range(chunk.count),):
            for item in part:
                if observers is not None:
                    observers.begun(*self.named(item), self.ran_in, time())
                began = monotonic()
                self.mark = Begun(item, began)
                try:
                    outcomes.append((item, function(*[column[item] for column in columns])))
                except BaseException as error:
                    outcomes.append((item, Failure(error, raised=True)))
                    if self.dispatcher.interrupts(error):
                        self.dispatcher.answered_here(call_id, self, outcomes)
                        raise
                if chunk.run.timed:
                    chunk.seconds[item] = monotonic() - began
        self.mark = None
        chunk.run.sizer.note_seconds(len(outcomes), perf_counter() - start)
        self.dispatcher.answered_here(call_id, self, outcomes)

    def settle(self, outcomes: list[tuple[int, Any]]) -> None:
        """Take the outcomes of items that ran in this process."""
        self.chunk.small = False  # they are objects of the user's
        for item, outcome in outcomes:
            self.answer(item, outcome)
        self.over()

    def replied(self, payload: bytes | memoryview, buffers: Sequence[Any]) -> bool:
        # When the executor broke, all items were told.
        return self.withdrawn or self._take(payload, buffers)

    def _take(self, payload: bytes | memoryview, buffers: Sequence[Any]) -> bool:
        """Answer items with what a reply says of them; True if that was its call's last one."""
        chunk = self.chunk
        self._tell_begun(payload)
        taken, last = 0, not self.cut
        values: list[Any] = []  # of neighbours up to end: answered together, since each answer may wake the consumer
        end = 0
        for kind, first, items, seconds, body, count in call_format.segments_of(payload):
            own = buffers[taken : taken + count]
            taken += count
            if kind == call_format.LOGS:
                self.dispatcher.take_logs(self, call_format.pid_of(payload), body)
                continue
            chunk.run.note_seconds(chunk, first, items, seconds)  # before the answer, which its consumer waits for
            if kind != call_format.VALUES or len(body) > _SMALL * items:
                chunk.small = False
            if kind == call_format.INIT:
                self.dispatcher.refused(self, body)
                return True
            found = self._open(kind, first, body, own)
            if type(found) is not list or first != end:
                self._answer_values(end, values)
                values = []
            if type(found) is list:
                values = values + found if values else found
                end = first + items
            elif items:
                self.answer(first, found)
            else:  # not even the function could be read, so the worker did not come to where it was cut
                last = True
                for item in self.unanswered():
                    self.answer(item, self._open(kind, item, body, own))
        self._answer_values(end, values)
        # What was cut ends with an empty reply: until that is here, its worker's death is still this call's.
        if self.left or not (last or call_format.is_empty(payload)):
            return False
        self.over()
        return True

    def _tell_begun(self, payload: bytes | memoryview) -> None:
        """Tell observers when items began that are answered now: their worker has run them one after another."""
        observers = self.dispatcher.observers
        if observers is None:
            return
        pid, began, _ = call_format.REPLY.unpack_from(payload)
        self.ran_in = f"{self.dispatcher.backend}-{pid}"
        for kind, first, items, seconds, _, _ in call_format.segments_of(payload):
            if kind >= call_format.INIT:
                continue
            for item in range(first, first + items):
                observers.begun(*self.named(item), self.ran_in, began + self.elapsed)
                self.elapsed += seconds / items

    def _open(self, kind: int, first: int, body: memoryview, buffers: Sequence[Any]) -> Any:
        """Open a segment: a list of values, or a `Failure`."""
        if kind == call_format.VALUES:
            return pickle.loads(body)
        if kind != call_format.VALUE:
            return open_failure(kind, body, self.chunk.item_id(first))
        value = open_value(body, buffers, self.chunk.item_id(first))
        return value if type(value) is Failure else [value]

    def _answer_values(self, end: int, values: list[Any]) -> None:
        """Answer the items before end, as many as there are values."""
        if not values:
            return
        first = end - len(values)
        self.left -= len(values)
        if self.left or self.answered:
            self.answered.append(range(first, end))
        if not self.withdrawn:
            self.chunk.settle(first, values, part=self)

    def answer(self, item: int, outcome: Any) -> None:
        """Take an item's value or `Failure`; a failure may be repeated instead."""
        self.left -= 1
        self.answered.append(range(item, item + 1))
        if self.withdrawn:
            return
        if type(outcome) is not Failure:
            self.chunk.settle(item, (outcome,), part=self)
        elif outcome.raised and (delay := self._delay(item, outcome.error)) is not None:
            self._repeat(item, delay, outcome.error)
        else:
            book = self.chunk.books.get(item)
            if book is not None and not outcome.raised:
                book.tries += 1  # the policy counts those that it is asked about
            self._fail(item, outcome.error)

    def _fail(self, item: int, error: BaseException) -> None:
        book = self.chunk.books.get(item)
        tries = 1 if book is None else book.tries
        text = f"task {self.chunk.item_id(item)}, attempt {tries}"
        if book is not None and tries > 1:
            text += f"; gave up after {tries} attempts in {monotonic() - book.started:.2f} seconds"
        annotate(error, text)
        self.dispatcher.count("failed")
        self.chunk.settle(item, (Failure(error),), failures=True, part=self)

    def _delay(self, item: int, error: BaseException, *, lost: bool = False, culprit: bool = True) -> float | None:
        retry = self.chunk.run.retry
        if retry is None:
            return None
        book = self.chunk.books.get(item)
        if book is None:
            book = self.chunk.books[item] = retry.begin()
            book.started = self.chunk.started
        try:
            return book.failed(error, lost=lost, culprit=culprit)
        except BaseException as problem:  # a user's `on` function may raise anything
            if may_be_the_programs(problem):
                raise
            error.add_note(f"the retry policy itself failed: {describe(problem)}")
            return None

    def _repeat(self, item: int, delay: float, error: BaseException) -> None:
        observers = self.dispatcher.observers
        if observers is not None:
            observers.retried(self.chunk.item_id(item), self.chunk.books[item].tries, error, delay)
        again = ChunkPart(self.chunk, (range(item, item + 1),))
        self.dispatcher.adopt(again)
        self.dispatcher.again(again, delay)

    # ---- loss and cancellation --------------------------------------------------------------------------------

    def unanswered(self) -> list[int]:
        """Return the items of this part that are not answered."""
        return [item for item in self._items() if not any(item in done for done in self.answered)]

    def _items(self) -> list[int]:
        return [item for part in self.select or (range(self.chunk.count),) for item in part]

    def lost(self, loss: Loss) -> None:
        if self.withdrawn:  # the executor broke, and all items were told
            return
        unanswered = self.unanswered()
        begun: list[int] = []
        if loss.began is not False:
            begun = unanswered if loss.items is None else [item for item in unanswered if item in loss.items]
        if begun:
            self.dispatcher.count("lost", len(begun))
            observers = self.dispatcher.observers
            if observers is not None and loss.began:
                self.ran_in = self.lost_worker(loss)
                for item in begun:
                    observers.begun(*self.named(item), self.ran_in, since_epoch(loss.at))
        for item in begun:
            culprit = loss.culprit and (self.overrun is None or item == self.overrun[0])
            book = self.chunk.books.get(item)
            tries = 1 if book is None else book.tries + 1
            error = self.loss_error(self.chunk.item_id(item), loss._replace(culprit=culprit), tries)
            self.left -= 1
            delay = self._delay(item, error, lost=True, culprit=culprit)
            if delay is not None:
                self._repeat(item, delay, error)
            else:
                self._fail(item, error)
        self.overrun = None
        rest = [item for item in unanswered if item not in begun]
        self.left = 0
        if rest:
            self._dispatch_again(rest)
        self.over()

    def returned(self, item: int) -> None:
        if self.withdrawn:  # all of them have ended
            return
        rest = [one for one in self._items() if one >= item]
        self.cut = True
        self.select = as_ranges([one for one in self._items() if one < item])
        self.left -= len(rest)
        self._dispatch_again(rest, self.chunk.run.sizer.parts(len(rest)))

    def _dispatch_again(self, items: list[int], parts: int = 1) -> None:
        """Dispatch items that have not begun once more; or cancel them, if that was asked for while they were away."""
        if self.chunk.run.cancelled:
            self._cancel(items)
            return
        each = -(-len(items) // parts)
        again = [ChunkPart(self.chunk, as_ranges(items[at : at + each])) for at in range(0, len(items), each)]
        for part in again:
            self.dispatcher.adopt(part)
        self.dispatcher.first(again)

    def failed(self, error: BaseException) -> None:
        for item in self.unanswered():
            self.left -= 1
            self.chunk.settle(item, (Failure(error, undone=True),), failures=True, part=self)
        self.withdrawn = True
        self.over()

    def cancel(self, *, running: bool = False) -> bool:
        del running  # items that have begun are awaited
        self.chunk.run.cancelled = True
        if not self.dispatcher.withdrawal.withdraw(self):
            return False
        self._cancel(self.unanswered())
        self.withdrawn = True
        self.over()
        return True

    def _cancel(self, items: list[int]) -> None:
        self.dispatcher.count("cancelled", len(items))
        for item in items:
            self.chunk.settle(item, (Failure(CancelledError(), undone=True),), failures=True, part=self)

    def over(self) -> None:
        """Note that nothing more comes of this part."""
        self.dispatcher.finished(self)
        if self.inside is not None:
            self.chunk.run.check_over()


def as_ranges(items: Sequence[int]) -> tuple[range, ...]:
    """Fold sorted numbers into ranges of neighbours."""
    ranges: list[range] = []
    for item in items:
        if ranges and ranges[-1].stop == item:
            ranges[-1] = range(ranges[-1].start, item + 1)
        else:
            ranges.append(range(item, item + 1))
    return tuple(ranges)
