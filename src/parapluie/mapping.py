"""The lazy map: reads its input as results are taken, streams its output, and still does all its work.

    input ─ feed ─▶ chunk ─▶ dispatcher … replies ─▶ chunk.results ─▶ the consumer's iterator
            ▲ within the window                           │
            └────────────── progress ─────────────────────┘

`MapRun` is the work and outlives the iterator: dropped before it was advanced, it is run to its end and its results are
dropped; advanced and then dropped, it is cancelled.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from parapluie import call_format
from parapluie.chunks import MISSING, Chunk, ChunkPart, Sizer, as_ranges, handing_over
from parapluie.condition import Condition
from parapluie.errors import ExecutorShutdownError
from parapluie.exits import may_be_the_programs
from parapluie.replies import Failure

if TYPE_CHECKING:
    import pickle

    from parapluie.backend import Buffers, CallOptions
    from parapluie.dispatch import Dispatcher
    from parapluie.errors import TaskPicklingError
    from parapluie.pickling import Serializer
    from parapluie.policies.retry import Retry
    from parapluie.sharing.inside import InsideTask


T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """One item's fate, as `map(on_error="collect")` yields it.

    Attributes: index (of the item in the input), value (None if it failed), error (None if it did not), attempts,
    seconds (that the item ran in its last attempt; an even share where several ran together).
    """

    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody misses here
    value: T
    error: BaseException | None
    attempts: int
    seconds: float


class Window:
    """How far a map reads ahead of its consumer."""

    ITEMS = 1024  # at least so many results may wait, so that one slow item does not idle the other workers,
    BYTES = 4 * 1024 * 1024  # unless they are large

    def __init__(self, max_workers: int, buffersize: int | None) -> None:
        self._buffersize = buffersize
        self._chunks = 2 * max_workers + 2
        self.items = self.chunks = self.bytes = self.unanswered = 0  # read and not taken by the consumer

    def limit(self, wanted: int) -> int:
        """Return how many items may be read now, at most wanted."""
        if self._buffersize is not None:
            return min(wanted, self._buffersize - self.items)
        if self.unanswered >= self._chunks:
            return 0
        if self.chunks >= self._chunks and (self.items >= self.ITEMS or self.bytes >= self.BYTES):
            return 0
        return wanted

    def limit_in_flight(self, wanted: int) -> int:
        """Return the same where results are kept, or dropped, however many they are."""
        return wanted if self.unanswered < self._chunks else 0


class MapRun:
    """The work of one `map`.

    Attributes:
        exhausted: nothing more will be read. chunks: read and not taken, in input order.
        advanced: the consumer has asked for a result. dropped: nobody will. abandoned: the consumer has gone half-way.
        cancelled: items that come back are not dispatched again.
        source_error: what the input raised, to be passed on after what it gave before.
        watched: somebody wants to know of each item that is answered, see watched.py.
    """

    watched = False

    def __init__(
        self,
        dispatcher: Dispatcher,
        function: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        *,
        dumps: Serializer,
        explain: Callable[[Any, BaseException, str], TaskPicklingError],
        options: CallOptions,
        retry: Retry | None,
        name: str | None,
        chunksize: int | None,
        buffersize: int | None,
    ) -> None:
        self.dispatcher, self.options, self.retry = dispatcher, options, retry
        number = next(dispatcher.numbers)
        self.name = f"{name}-{number}" if name else str(number)
        self.function = function
        self.inside: InsideTask | None = None  # where the executor has channels or named objects
        self.failure: BaseException | None = None  # of the first item that failed; noted where there are channels
        if dispatcher.inside is not None:
            self.function = self.inside = dispatcher.inside(function, self.name)
            dumps = self.inside.noting(dumps)
            if not dispatcher.isolated:
                self.inside.look_at(function)
        takes_back = dispatcher.settings.capabilities.takes_back_items
        target = Sizer.LONG_SECONDS if takes_back else Sizer.TARGET_SECONDS
        if options.task_timeout is not None and not takes_back:
            chunksize = 1  # results come with the chunk's reply, so that an item which overruns would cost the others
        self.sizer = Sizer(chunksize, target, dispatcher.max_workers)
        self.window = Window(dispatcher.max_workers, buffersize)
        self.chunks: deque[Chunk] = deque()
        self.ready: deque[Chunk] = deque()  # complete, in the order in which they became so
        self.advanced = self.exhausted = self.dropped = self.abandoned = self.cancelled = self.timed = False
        self.source_error: BaseException | None = None
        self._finite = any(hasattr(iterable, "__len__") for iterable in iterables)
        self._length = _length(iterables)
        self._single = len(iterables) == 1
        self._source: Iterator[Any] = iter(iterables[0]) if self._single else zip(*iterables, strict=False)
        self._count = 0  # items read
        self._dumps, self._explain = dumps, explain
        self._function_pickle = b""
        self._function_buffers: Buffers = ()  # kept once, and part of every call
        self._function_failure: BaseException | None = None
        if dispatcher.isolated:
            self._dump_function(function)
        self._changed = Condition()  # notified when a chunk has made progress; guards the window's figures
        self._feeding = threading.Lock()  # one reader of the input at a time; never waited for
        dispatcher.maps[id(self)] = self

    def _dump_function(self, given: Callable[..., Any]) -> None:
        buffers: list[pickle.PickleBuffer] = []
        try:
            self._function_pickle = self._dumps(self.function, buffers.append)
            self._function_buffers = self.dispatcher.keep(buffers)
        except BaseException as error:  # whatever pickling raised is what each item ends with
            if may_be_the_programs(error):
                raise
            self._function_failure = self._explain(given, error, self.name)

    # ---- reading the input ------------------------------------------------------------------------------------

    def feed(self, *, keep: bool = False) -> None:
        """Read items and submit them, as far as the window goes; with keep, as far as the workers go."""
        while not self.exhausted and not self.abandoned and self._feeding.acquire(blocking=False):
            try:
                limit = self.window.limit_in_flight if keep else self.window.limit
                left = None if self._length is None else max(0, self._length - self._count)
                wanted = limit(self.sizer.next(left))
                if wanted < 1:
                    return
                self._read(wanted)
            finally:
                self._feeding.release()

    def _read(self, wanted: int) -> None:
        items: list[Any] = []
        try:
            items.extend(islice(self._source, wanted))
        except BaseException as error:  # the input's own error is the consumer's, after what came before it
            if may_be_the_programs(error):
                raise
            self.source_error = error
        if items and not self.exhausted:
            self._launch([items] if self._single else list(zip(*items, strict=True)), len(items))
        if len(items) < wanted:
            self._end()

    def _launch(self, columns: Sequence[Sequence[Any]], count: int) -> None:
        chunk = Chunk(self, self._count, count)
        self._count += count
        failures = self._pack(chunk, columns)
        with self._changed:
            self.window.items += chunk.count
            self.window.chunks += 1
            self.window.bytes += chunk.size
            self.window.unanswered += 1
            self.chunks.append(chunk)
        select = None
        if failures:
            good = [item for item in range(chunk.count) if item not in failures]
            select = as_ranges(good)
        part = ChunkPart(chunk, select) if select != () else None
        for item, error in failures.items():
            self.dispatcher.count("submitted")
            self.dispatcher.count("failed")
            chunk.settle(item, (Failure(error),), failures=True)
        if part is not None:
            try:
                self.dispatcher.submit(part, part.left, late=True)
            except Exception as error:  # noqa: BLE001 - shut down or broken: the items say so
                part.failed(error)

    def _pack(self, chunk: Chunk, columns: Sequence[Sequence[Any]]) -> dict[int, BaseException]:
        """Pickle the items into the chunk; return the failures of those that cannot be."""
        if not self.dispatcher.isolated:
            chunk.columns = columns
            if self.inside is not None:
                self.inside.look_at(columns)
            return {}
        if self._function_failure is not None:
            return dict.fromkeys(range(chunk.count), self._function_failure)
        failures: dict[int, BaseException] = {}
        if all(call_format.PLAIN.issuperset(map(type, column)) for column in columns):
            form, body = call_format.COLUMNS, self._dumps(columns, None)
        else:
            form, body = call_format.ROWS, self._pack_rows(chunk, zip(*columns, strict=True), failures)
        function, own = self._function_pickle, self._function_buffers
        chunk.payload = b"".join((call_format.CHUNK.pack(form, len(function), len(own)), function, body))
        chunk.buffers = (*own, *chunk.buffers)
        chunk.size += len(body)
        self.sizer.note_bytes(chunk.count, chunk.size)
        return failures

    def _pack_rows(self, chunk: Chunk, rows: Iterable[tuple[Any, ...]], failures: dict[int, BaseException]) -> bytes:
        packed: list[tuple[bytes, int, int]] = []
        kept: list[Any] = []
        before = len(self._function_buffers)
        for item, row in enumerate(rows):
            first = before + len(kept)
            buffers: list[pickle.PickleBuffer] = []
            try:
                data = self._dumps(row, buffers.append)
                kept += self.dispatcher.keep(buffers)
                chunk.size += sum(memoryview(buffer).nbytes for buffer in buffers)
            except BaseException as error:  # it is this item's failure, and no other's
                if may_be_the_programs(error):
                    raise
                failures[item] = self._explain(row, error, chunk.item_id(item))
                data = b""
            packed.append((data, first, before + len(kept)))
        chunk.buffers = kept
        return self._dumps(packed, None)

    def _end(self) -> None:
        self.exhausted = True
        self._source = iter(())
        self.dispatcher.map_fed(self)
        self.check_over()
        with self._changed:
            self._changed.notify_all()

    def check_over(self) -> None:
        """Tell channels, if it holds any, that it is over. Asked whenever something of it has ended."""
        if self.inside is not None and self.exhausted and not self.dispatcher.works_of(self):
            self.inside.ended(self.failure)

    # ---- progress ---------------------------------------------------------------------------------------------

    def watch(self, chunk: Chunk, first: int, values: Sequence[Any], *, failures: bool) -> None:
        """Take a look at the results of neighbouring items before anybody else can; called by the chunk, if watched."""
        raise NotImplementedError

    def progress(self, chunk: Chunk) -> None:
        """Note that items of a chunk were answered; called by the chunk, in any thread."""
        with self._changed:
            if not chunk.left:
                self.window.unanswered -= 1
                self.ready.append(chunk)
                if self.dropped:
                    self._forget(chunk)
            elif not self.chunks or chunk is not self.chunks[0]:
                return  # who takes results waits for those of the first chunk, or for a chunk that is complete
            self._changed.notify_all()

    def note_seconds(self, chunk: Chunk, first: int, items: int, seconds: float) -> None:
        """Learn from a reply how long items take."""
        self.sizer.note_seconds(items, seconds)
        if self.timed:
            for item in range(first, first + items):
                chunk.seconds[item] = seconds / items

    def wait(self, done: Callable[[], bool], deadline: float | None) -> None:
        """Wait until done() or some progress; TimeoutError if the deadline has passed."""
        with self._changed:
            if done():
                return
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"map was not done in time: {self._count - self.window.items} results were taken")
            self._changed.wait(left)

    def taken(self, chunk: Chunk) -> None:
        """Note that the consumer is through with a chunk."""
        with self._changed:
            self._forget(chunk)

    def _forget(self, chunk: Chunk) -> None:
        self.window.items -= chunk.count
        self.window.chunks -= 1
        self.window.bytes -= chunk.size
        chunk.results.clear()
        for chunks in (self.chunks, self.ready):
            if chunk in chunks:
                chunks.remove(chunk)

    def results(self, *, ordered: bool, on_error: str, deadline: float | None) -> Iterator[Iterable[Any]]:
        """Yield what the consumer gets, as many results at a time as are there; feed the map on the way."""
        return results_of(self, ordered=ordered, on_error=on_error, deadline=deadline)

    # ---- the end ----------------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Go on without a consumer: results are dropped from now on."""
        with self._changed:
            self.dropped = True
            for chunk in [chunk for chunk in self.chunks if not chunk.left]:
                self._forget(chunk)
        self.drain(wait=self.dispatcher.clock is None)

    def drain(self, *, wait: bool) -> None:
        """Read the input to its end, in this thread or in one of its own.

        Input that may be endless is not read any further for a consumer who has stopped half-way and still holds the
        iterator: that one raises.
        """
        if self.abandoned:
            self.cancel()
        elif self.advanced and not self.dropped and not self._finite:
            if not self.exhausted:
                self.source_error = ExecutorShutdownError(self.dispatcher.backend)
                self._end()
        elif wait:
            self._run_to_end()
        elif not self.exhausted:
            try:
                threading.Thread(target=self._run_to_end, name=f"parapluie-map-{self.name}", daemon=True).start()
            except RuntimeError:  # the interpreter is ending: the exit handler drains in its own thread
                return

    def _run_to_end(self) -> None:
        while not self.exhausted and not self.abandoned:
            self.feed(keep=True)
            if self.exhausted:
                return
            self.wait(lambda: self.exhausted or self.window.limit_in_flight(1) > 0, None)

    def broken(self, error: BaseException) -> None:
        """Read nothing more: the executor is broken, which the consumer is told after the last result."""
        self.source_error = error
        self._end()

    def abandon(self) -> None:
        """Cancel, from a finalizer: nothing but a note is made in it."""
        self.abandoned = True
        if self.dispatcher.clock is None:
            self.cancel()
        else:
            self.dispatcher.clock.post(self.cancel)

    def cancel(self) -> None:
        """Read nothing more and withdraw what has not begun."""
        if not self.exhausted and self.source_error is None:  # whoever still takes results is told that there are more
            self.source_error = ExecutorShutdownError(self.dispatcher.backend)
        self._end()
        for work in reversed(self.dispatcher.works_of(self)):
            work.cancel()


def _length(iterables: Sequence[Iterable[Any]]) -> int | None:
    """Return how many items there are, where an input of a type that surely tells it at no cost does."""
    lengths = [len(iterable) for iterable in iterables if isinstance(iterable, range | list | tuple)]
    return min(lengths, default=None)


class MapIterator(Iterator[Any]):
    """What `Executor.map` returns.

    Iterating hands out a chain of blocks of results, which the loop then drives without us in between. Not for several
    threads at once.
    """

    def __init__(self, run: MapRun, blocks: Generator[Iterable[Any], None, None], lease: object) -> None:
        self._run, self._blocks = run, blocks
        self._results = chain.from_iterable(blocks)
        self._handed = False
        self._lease = lease  # keeps the executor from being closed as long as somebody may take results

    def __iter__(self) -> Iterator[Any]:  # noqa: PYI034 - the chain, see the class
        self._handed = True
        return self._results

    def __next__(self) -> Any:
        return next(self._results)

    def close(self) -> None:
        """Cancel what has not begun; no results are to be had any more."""
        self._blocks.close()
        self._run.advanced = True
        self._run.cancel()

    def __del__(self) -> None:
        run = self._run
        if not self._handed and not run.advanced:
            # Nobody will ever look at the results, but the work was asked for. Not in a finalizer's thread, though.
            if run.dispatcher.clock is None:
                run.drop()
            else:
                run.dispatcher.clock.post(run.drop)


def blocks_of(
    run: MapRun, *, ordered: bool, on_error: str, timeout: float | None, lease: object
) -> Generator[Iterable[Any], None, None]:
    """Yield a map's results, as many at a time as are there, and feed it on the way."""
    deadline = None if timeout is None else monotonic() + timeout
    return _blocks(run, run.results(ordered=ordered, on_error=on_error, deadline=deadline), lease)


def _blocks(run: MapRun, results: Iterator[Iterable[Any]], lease: object) -> Generator[Iterable[Any], None, None]:
    run.advanced = True
    try:
        yield from results
    except GeneratorExit:
        run.abandon()
        raise
    except BaseException:
        run.cancel()
        raise
    finally:
        del lease
    if run.source_error is not None:
        raise run.source_error


def results_of(
    run: MapRun, *, ordered: bool, on_error: str, deadline: float | None
) -> Generator[Iterable[Any], None, None]:
    """Yield the results of a map's chunks."""
    while (chunk := _next_chunk(run, deadline, ordered=ordered)) is not None:
        yield from _chunk_blocks(run, chunk, on_error, deadline)
        run.taken(chunk)
        chunk = None


def _next_chunk(run: MapRun, deadline: float | None, *, ordered: bool) -> Chunk | None:
    """Return the next chunk to yield from; None after the last."""
    while True:
        run.feed()
        if ordered and run.chunks:
            return run.chunks[0]
        if not ordered and run.ready:
            return run.ready[0]
        if run.exhausted and not run.chunks:
            return None
        run.wait(lambda: bool(run.chunks if ordered else run.ready) or (run.exhausted and not run.chunks), deadline)


def _chunk_blocks(run: MapRun, chunk: Chunk, on_error: str, deadline: float | None) -> Iterator[Iterable[Any]]:
    """Yield a chunk's results: all that are left at once when it is complete, before that one by one as they come."""
    item = 0
    while item < chunk.count:
        if chunk.left == 0 and on_error == "collect":
            yield (outcome_of(chunk, left, _take(chunk.results, left)) for left in range(item, chunk.count))
            return
        if chunk.left == 0 and not chunk.failures:
            yield chunk.rest(item)
            return
        if chunk.results[item] is MISSING:
            run.feed()
            run.wait(lambda item=item: chunk.results[item] is not MISSING, deadline)  # type: ignore[misc]
            continue
        if on_error == "collect":
            yield (outcome_of(chunk, item, _take(chunk.results, item)),)
        elif type(chunk.results[item]) is not Failure:
            yield handing_over([_take(chunk.results, item)])
        elif on_error == "raise":
            error = _take(chunk.results, item).error
            try:
                raise error
            finally:
                del error  # the traceback refers to this frame
        item += 1


def _take(results: list[Any], item: int) -> Any:
    value = results[item]
    results[item] = None
    return value


def outcome_of(chunk: Chunk, item: int, result: Any) -> Outcome[Any]:
    """Return an item's fate; its number is that in the chunk."""
    book = chunk.books.get(item)
    seconds = chunk.seconds.get(item, 0.0)
    if type(result) is Failure:
        attempts = 1 if book is None else book.tries
        return Outcome(chunk.first + item, None, result.error, attempts, seconds)
    attempts = 1 if book is None else book.tries + 1
    return Outcome(chunk.first + item, result, None, attempts, seconds)
