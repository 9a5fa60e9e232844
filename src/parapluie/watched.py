"""A map that somebody watches: a limit of failures, a display of its progress, a journal.

`WatchedRun` is a `MapRun` whose chunks show it what is answered before anybody else can take it. It counts, has the
journal's recorder write it, and stops the map when too many items have failed. What its consumer gets are outcomes that
are recorded, in the form that `on_error` asks for, with those that an earlier run has left in the journal in between.
"""

from __future__ import annotations

import threading
from functools import partial
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any

from parapluie.errors import ConfigError, TooManyFailuresError
from parapluie.failure_limit import FailureLimit
from parapluie.mapping import MapRun, Outcome, Window, outcome_of, results_of
from parapluie.progress import SECONDS, Display, Progress, as_display
from parapluie.replies import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from parapluie.chunks import Chunk
    from parapluie.journal.recorder import Recorder
    from parapluie.journal.replay import Place, Replay
    from parapluie.journal.settings import Journal
    from parapluie.journal.store import Store


def watched_run(*, max_failures: int | str | None, progress: object, journal: object, on_error: str) -> Any:
    """Return what makes a watched run, as `MapRun` is made.

    Raises:
        ConfigError: if an argument is none that a map takes.
    """
    limit = None if max_failures is None else FailureLimit(max_failures)
    if limit is not None and on_error == "raise":
        raise ConfigError(
            f"max_failures={max_failures!r} needs on_error='collect' or 'skip': 'raise' ends at the first"
        )
    durable = None
    if journal is not None:
        from parapluie.journal.settings import as_journal  # sqlite3 and hashlib: only where they are needed

        durable = as_journal(journal)
    return partial(WatchedRun, limit=limit, display=as_display(progress), journal=durable)


class _PatientWindow(Window):
    """How far ahead a watched map reads: less far where that would keep its consumer from results that are there.

    Args:
        in_caller: items run in the consumer's thread, so that what is read ahead may take a moment at most.
        ready: says how many items are there, None for any number, where the input knows: a stream would be waited for.
    """

    def __init__(
        self, max_workers: int, buffersize: int | None, *, in_caller: bool, ready: Callable[[], int | None] | None
    ) -> None:
        super().__init__(max_workers, buffersize)
        self._in_caller, self._ready = in_caller, ready
        self._since = 0.0

    def limit(self, wanted: int) -> int:
        if self._in_caller:
            if not self.items:
                self._since = monotonic()
            elif monotonic() - self._since > SECONDS:
                return 0
        there = None if self._ready is None else self._ready()
        return super().limit(wanted if there is None else min(wanted, there))


class _Share:
    """What the consumer's iterator holds of a journal: it is let go of with it, whether or not that was advanced."""

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go = let_go

    def end(self) -> None:
        self._let_go()

    def __del__(self) -> None:
        self._let_go()


class WatchedRun(MapRun):
    """The work of a watched map."""

    watched = True

    def __init__(
        self,
        *args: Any,
        limit: FailureLimit | None,
        display: Display | None,
        journal: Journal | None,
        buffersize: int | None,
        **kwargs: Any,
    ) -> None:
        self._limit, self._display = limit, display
        self._began = monotonic()
        self._counting = threading.Lock()  # guards the next four; held for an addition
        self._done = self._failed = self._retried = 0
        self._last_error: BaseException | None = None
        self._stopping = False  # for an error of ours, which comes behind all that is done
        self._given_up = False  # nobody will take what is not done
        self._undone: set[int] = set()  # items that were cancelled, and that nobody has taken
        self._consumer = 0  # the thread that takes results
        self._display_error: BaseException | None = None
        self._store: Store | None = None
        self._holders = dict.fromkeys(("recorder", "consumer"))  # of the store; its single operations are atomic
        self._recorder: Recorder | None = None
        self._replay: Replay | None = None
        self._unrecorded: dict[int, BaseException] = {}  # errors of items whose values the journal cannot hold
        self._finished = False
        _, function, iterables = args
        store = None if journal is None else journal.open_for(function)
        try:
            super().__init__(*args, buffersize=buffersize, **kwargs)
            self.timed = True
            self._total = _total(iterables)
            # An input may have a method `ready`, called as ready(tell): it returns how many items can be read without
            # waiting, None for any number, and has tell() called when there are more.
            ready = getattr(iterables[0], "ready", None) if self._single else None
            if ready is not None:
                ready = partial(ready, self._notify)
            self._slices = display is not None or ready is not None
            in_caller = self.dispatcher.clock is None
            self.window = _PatientWindow(self.dispatcher.max_workers, buffersize, in_caller=in_caller, ready=ready)
            if journal is not None and store is not None:
                self._record(journal, store)
        except BaseException:
            if store is not None:
                store.close()
            raise

    def _record(self, journal: Journal, store: Store) -> None:
        from parapluie.journal.recorder import Recorder
        from parapluie.journal.replay import Replay

        self._store = store
        self._replay = replay = Replay(journal, store, self._left_out)
        self._source = replay.over(self._source)
        self._recorder = Recorder(
            store,
            place=self._place,
            failed=self._not_recorded,
            broke=self._stop,
            changed=self._notify,
            ended=partial(self._let_go, "recorder"),
            over=self.dispatcher.ending.over,
        )
        self._recorder.start()

    def _place(self, number: int) -> Place:
        assert self._replay is not None
        places = self._replay.places
        return places[number] if "consumer" in self._holders else places.pop(number)  # who takes its result finds it

    def _left_out(self) -> None:
        if self._length is not None:
            self._length -= 1

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _let_go(self, who: str) -> None:
        """Note that the recorder, or the consumer, needs the journal no more: the last one closes it."""
        self._holders.pop(who, None)
        if self._store is not None and not self._holders:
            self._store.close()

    # ---- what is answered -------------------------------------------------------------------------------------------

    def watch(self, chunk: Chunk, first: int, values: Sequence[Any], *, failures: bool) -> None:
        number = chunk.first + first
        numbers: Iterable[int] = range(number, number + len(values))
        # Of a copy, and made where they are needed: the consumer takes results out of the chunk's own list.
        outcomes: Iterable[Outcome[Any]] = (outcome_of(chunk, *pair) for pair in enumerate(list(values), first))
        if failures or chunk.books:
            undone = {number + at for at, value in enumerate(values) if self._is_undone(value)}
            self._undone.update(undone)
            outcomes = [outcome for outcome in outcomes if outcome.index not in undone]
            numbers = [outcome.index for outcome in outcomes]
            for outcome in outcomes:
                self._count_one(outcome)
        else:
            with self._counting:
                self._done += len(values)
        if self._recorder is not None and numbers:
            self._recorder.put(outcomes, numbers)
        self._check_limit()
        if self.dispatcher.clock is None:
            self._show_soon()

    def _is_undone(self, value: object) -> bool:
        """Say whether a result is none: the item was cancelled, or failed because all of this is being ended.

        Workers are killed then, and Ctrl-C at a terminal also ends what tasks have started. Such an item runs again.
        """
        if type(value) is not Failure:
            return False
        dispatcher = self.dispatcher
        return (
            value.undone
            or self._given_up
            or self.abandoned
            or dispatcher.ending.stop_once.locked()
            or dispatcher.interrupts(value.error)
        )

    def _count_one(self, outcome: Outcome[Any]) -> None:
        with self._counting:
            self._done += 1
            self._retried += outcome.attempts - 1
            if outcome.error is not None:
                self._failed += 1
                self._last_error = outcome.error

    def _not_recorded(self, number: int, error: BaseException) -> None:
        self._unrecorded[number] = error
        with self._counting:
            self._failed += 1
            self._last_error = error
        self._check_limit()

    # ---- too many failures ------------------------------------------------------------------------------------------

    def _check_limit(self) -> None:
        if self._limit is None or self._stopping:
            return
        progress = self._progress()
        if self._limit.exceeded(progress.failed, progress.done, progress.total):
            error = TooManyFailuresError(progress.failed, progress.done, self._limit.given)
            error.__cause__ = self._last_error
            self._stop(error)

    def _stop(self, error: BaseException) -> None:
        """Read nothing more and cancel what has not begun: what is done is given, and then the error."""
        self._stopping = True
        self.source_error = error
        if self.dispatcher.clock is None:
            self.cancel()
        else:
            self.dispatcher.clock.post(self.cancel)

    # ---- the input, and the end of the work -------------------------------------------------------------------------

    def feed(self, *, keep: bool = False) -> None:
        if not self._stopping:
            super().feed(keep=keep)
        self._finish_if_over()

    def progress(self, chunk: Chunk) -> None:
        super().progress(chunk)
        self._finish_if_over()

    def _end(self) -> None:
        used_up = not self.exhausted and self.source_error is None
        super()._end()
        if used_up:
            self._total = self._count if self._replay is None else self._replay.read
            self._check_limit()
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        """Have the recorder end once there are no more answers to come."""
        over = self.exhausted and not self.window.unanswered and not self._feeding.locked()
        if over and self._recorder is not None and not self._finished:
            self._finished = True
            self._recorder.finish()

    def cancel(self) -> None:
        if not self._stopping:
            self._given_up = True
        super().cancel()

    # ---- what the consumer gets -------------------------------------------------------------------------------------

    def results(self, *, ordered: bool, on_error: str, deadline: float | None) -> Iterator[Iterable[Any]]:
        share = _Share(partial(self._let_go, "consumer"))
        return self._results(share, ordered=ordered, on_error=on_error, deadline=deadline)

    def _results(
        self, share: _Share, *, ordered: bool, on_error: str, deadline: float | None
    ) -> Iterator[Iterable[Any]]:
        self._consumer = threading.get_ident()
        try:
            self._show()
            for outcome in self._outcomes(ordered=ordered, deadline=deadline):
                self._show()
                if on_error == "collect":
                    yield (outcome,)
                elif outcome.error is None:
                    yield (outcome.value,)
                elif on_error == "raise":
                    raise outcome.error
            self._wait_recorded()
            self._show(now=True)
        finally:
            if self._display is not None:
                self._display.close()
            share.end()

    def _outcomes(self, *, ordered: bool, deadline: float | None) -> Iterator[Outcome[Any]]:
        """Yield the outcomes of all items of the input, those of an earlier run among them."""
        position = 0 if ordered else None  # in the input
        blocks = results_of(self, ordered=ordered, on_error="collect", deadline=deadline)
        answered: Iterator[Outcome[Any]] = chain.from_iterable(blocks)
        while True:
            self.feed()
            for outcome in self._restored(position):
                position = None if position is None else outcome.index + 1
                yield outcome
            answer = next(answered, None)
            for outcome in self._restored(position):
                position = None if position is None else outcome.index + 1
                yield outcome
            if answer is None:
                return
            number = answer.index
            outcome = self._recorded(answer, deadline)
            position = None if position is None else outcome.index + 1
            if number in self._undone:
                self._undone.discard(number)
                if self.source_error is None:
                    self.source_error = self.dispatcher.error  # it broke when all of the input was read
                if self.source_error is not None:  # which comes in the end, and says it all
                    continue
            yield outcome

    def _restored(self, position: int | None) -> Iterator[Outcome[Any]]:
        return iter(()) if self._replay is None else self._replay.restored_outcomes(position)

    def _recorded(self, outcome: Outcome[Any], deadline: float | None) -> Outcome[Any]:
        """Return an outcome with its place in the input, once the journal has it."""
        recorder, replay, number = self._recorder, self._replay, outcome.index
        if recorder is None or replay is None:
            return outcome
        while number in recorder.waiting:
            if recorder.error is not None:
                raise recorder.error
            self.feed()
            window = self.window
            if not window.unanswered or (not self.exhausted and window.limit(1) < 1 <= window.limit_in_flight(1)):
                recorder.commit_soon()  # nothing runs, or nothing more is read, until the consumer has what waits
            self.wait(lambda: number not in recorder.waiting or recorder.error is not None, deadline)
        outcome = outcome._replace(index=replay.places.pop(number).number)
        error = self._unrecorded.pop(number, None)
        return outcome if error is None else outcome._replace(value=None, error=error)

    def _wait_recorded(self) -> None:
        if self._recorder is not None:
            self._finish_if_over()
            self._recorder.wait()
            if self._recorder.error is not None:
                raise self._recorder.error

    # ---- the display ------------------------------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], deadline: float | None) -> None:
        if not self._slices or threading.get_ident() != self._consumer:
            super().wait(done, deadline)
            return
        self._show()
        soon = monotonic() + SECONDS
        super().wait(done, soon if deadline is None else min(soon, deadline))

    def _show(self, *, now: bool = False) -> None:
        """Show how far we are, if it is time; raise what that raises, or has raised."""
        if self._display_error is not None:
            raise self._display_error
        if self._display is not None and (now or self._display.due()):
            self._display.show(self._progress())

    def _show_soon(self) -> None:
        """Show it from a place where nothing may raise."""
        if threading.get_ident() != self._consumer:
            return
        try:
            self._show()
        except Exception as error:  # noqa: BLE001 - the consumer gets it, with the next result
            self._display_error = error

    def _progress(self) -> Progress:
        restored, failed = (0, 0) if self._replay is None else (self._replay.restored, self._replay.failed)
        with self._counting:
            counts = self._done + restored, self._failed + failed, self._retried
        return Progress(*counts, restored=restored, total=self._total, seconds=monotonic() - self._began)


def _total(iterables: Sequence[Iterable[Any]]) -> int | None:
    """Return the length of the input, if all that it consists of have one."""
    try:
        return min(len(iterable) for iterable in iterables)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # one of them has none; there are none
        return None
