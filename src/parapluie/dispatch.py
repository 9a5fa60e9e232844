"""The dispatcher: between the executor that users hold and the backend that carries calls.

    submitting threads ─ submit ─▶ waiting ─ fill ─▶ in flight ─ dispatch ─▶ backend
                                      ▲                  │                      │
                                      └── again (retry, lost before it began) ◀─┤ replied, lost
                                                                                ▼
                                                                             futures

Nothing here waits for a lock: submitting must work from callbacks, finalizers and signal handlers, which may interrupt
this very code. So the state is kept in containers whose single operations are atomic, and one thread at a time, whoever
finds the gate free, moves work to the backend; who finds it closed leaves, and the holder looks again before it goes.

    _open      every work that is not over          _queued     those that wait or rest: to cancel is to pop it here
    _waiting   the order in which they go           _in_flight  by call id; to answer is to pop it here
"""

from __future__ import annotations

import atexit
import itertools
import logging
import multiprocessing.util  # noqa: F401 - see the end of this file
import os
import pickle
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from importlib import import_module

from parapluie import stdlib_private, worker
from parapluie.backend import Backend, Begun, Buffers, Call, Loss, Stop
from parapluie.errors import ExecutorShutdownError
from parapluie.policies.clock import Clock
from parapluie.records import NamedTuple
from parapluie.replies import open_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from typing import Any

    from parapluie.mapping import MapRun
    from parapluie.policies.shutdown import Shutdown
    from parapluie.policies.timeout import Timeouts
    from parapluie.settings import Settings
    from parapluie.sharing.state import Shared
    from parapluie.work import Work

_log = logging.getLogger("parapluie")
_SETTLED_SECONDS = 0.5  # after which what only failures need is imported
_START_TRIES = 3  # failed starts of workers in a row, until the executor is broken
_live: set[Dispatcher] = set()  # until they are closed; keeps them alive when their executors are collected


class Stats(NamedTuple):
    """A snapshot of an executor. Items of `map` count one by one.

    Attributes:
        workers: that live now; queued: waiting or between attempts; running: begun and not answered;
        done: ended with a value; failed: ended with an error; cancelled; retried: attempts beyond the first;
        lost: attempts whose worker died or was killed for its time limit.
    """

    workers: int
    queued: int
    running: int
    done: int
    failed: int
    cancelled: int
    retried: int
    lost: int


class Dispatcher:
    """Moves work to one backend and answers back; the `Host` of that backend.

    It lives until it is closed and everything has ended, whether or not somebody still holds an `Executor`.
    """

    def __init__(self, settings: Settings, engine: Backend, shutdown: Shutdown) -> None:
        self.settings, self.engine, self.shutdown = settings, engine, shutdown
        self.backend = settings.info.name
        self.isolated = settings.capabilities.isolated_memory
        self.max_workers: int = settings.max_workers
        self.context: BaseContext = settings.context
        self.max_tasks_per_child: int | None = settings.max_tasks_per_child
        self.start_timeout: float = settings.start_timeout
        self.bootstrap = b""
        self.numbers = itertools.count(1)
        self.maps: dict[int, MapRun] = {}  # whose input is not used up
        self.error: BaseException | None = None  # why the executor is broken
        self.closing = False
        self._call_ids = itertools.count(1)
        self._waiting: deque[Work] = deque()
        self._queued: dict[int, Work] = {}
        self._open: dict[int, Work] = {}
        self._in_flight: dict[int, Work] = {}
        self._gate: dict[int, object] = {}  # holds, under 0, the token of the thread that fills
        self._filler = 0  # the thread that fills
        self._rooms = 0  # how often room was announced
        self._full_at = -1  # what that was when the backend last took less than it was offered
        self._hint = max(1, settings.max_workers)  # how many calls to offer at a time
        self._failed_starts = 0
        self._counts = dict.fromkeys(("submitted", "failed", "cancelled", "retried", "lost"), 0)
        self._counting = threading.Lock()  # guards _counts, but for "submitted"; held for one addition
        self._stop_once = threading.Lock()  # taken, for ever, by who stops the engine
        self._started = False
        self._kept: list[int] = []  # see `prepare_for_failure`
        self._closed = threading.Event()
        self._in_caller = settings.capabilities.runs_in_caller
        self._owner = os.getpid()
        self.clock = None if self._in_caller else Clock(f"parapluie-{self.backend}-clock")
        self._timeouts: Timeouts | None = None  # made when the first task has a limit
        self._shared: Shared | None = None  # guarded by _counting while it is made
        _live.add(self)

    def start(self, bootstrap: bytes) -> None:
        """Start the backend. Whatever it raises passes; the dispatcher is closed then."""
        self.bootstrap = bootstrap
        _register_exit()
        if "parapluie.pool_errors" not in sys.modules:
            self._kept.append(os.open(os.devnull, os.O_RDONLY))
            if self.clock is not None:
                self.clock.at(time.monotonic() + _SETTLED_SECONDS, self.prepare_for_failure)
        self.engine.start(self)
        self._started = True

    def prepare_for_failure(self) -> None:
        """Import pool_errors.py, for which a descriptor was kept: a failure may be that there are none left.

        It takes a fifth of the time until a small program has its first result. So it comes after that, or with the
        first failure, whichever is sooner.
        """
        self._let_go_of_kept()
        import_module("parapluie.pool_errors")

    def _let_go_of_kept(self) -> None:
        with suppress(IndexError):  # another thread may be at it
            os.close(self._kept.pop())

    # ---- submitting -------------------------------------------------------------------------------------------

    def submit(self, work: Work, items: int = 1, *, late: bool = False) -> None:
        """Take work; late allows it while the executor drains, for the rest of a `map`."""
        if self.closing and not late:
            self.refuse()
        if self.error is not None:
            raise self.error
        self._open[work.id] = work
        self._queued[work.id] = work
        self._counts["submitted"] += items
        self._waiting.append(work)
        if self._stop_once.locked() or self.error is not None:  # it happened meanwhile: nobody would answer
            self._open.pop(work.id, None)
            if self._queued.pop(work.id, None) is not None:
                self.refuse()
        self.pump()

    def adopt(self, work: Work) -> None:
        """Take on work that continues other work; `again` then dispatches it."""
        self._open[work.id] = work

    def works_of(self, run: MapRun) -> list[Work]:
        """Return the open works of a `map`, the first to be dispatched first."""
        return [work for work in list(self._open.values()) if work.belongs_to(run)]

    def refuse(self) -> None:
        """Raise what submit raises now."""
        if self.error is not None:
            raise self.error
        raise ExecutorShutdownError(self.backend)

    def pump(self) -> None:
        """Move waiting work to the backend, as far as it has room, unless another thread is at it."""
        while self._waiting and self._rooms != self._full_at and self.error is None:
            token = object()
            try:
                # A dictionary, and not a lock, because a KeyboardInterrupt may come at any line of this: who holds
                # the gate can be told at the end, so it is never left closed.
                if self._gate.setdefault(0, token) is not token:
                    break
                self._filler = threading.get_ident()
                self._fill()
            finally:
                if self._gate.get(0) is token:
                    self._filler = 0
                    del self._gate[0]
        if self._in_caller:
            self.engine.run_queued()

    def _fill(self) -> None:
        rooms = self._rooms
        works: list[Work] = []
        calls: list[Call] = []
        try:
            while len(calls) < self._hint and self._waiting:
                work = self._waiting.popleft()
                if self._queued.pop(work.id, None) is None:
                    continue  # cancelled
                works.append(work)
                work.sent = False
                call = work.call(next(self._call_ids))
                self._in_flight[call.id] = work
                calls.append(call)
            taken = self.engine.dispatch(calls) if calls else 0
        except BaseException as error:
            self._recover(works)
            if isinstance(error, Exception):  # a defect of the backend; anything else is for the caller
                self.broken(error)
                return
            raise
        for work in works[:taken]:
            work.sent = True
            if work.options.task_timeout is not None:
                self._watch(work.call_id, work.options.task_timeout)
        if taken < len(works):
            self._full_at = rooms
            for work in reversed(works[taken:]):
                self._put_back(work)

    def _watch(self, call_id: int, limit: float) -> None:
        if self._timeouts is None:
            if self.clock is None:
                return  # it runs in the caller: nobody can end it
            from parapluie.policies.timeout import Timeouts

            self._timeouts = Timeouts(
                self.clock, open_call=self._in_flight.__contains__, begun=self.begun, overran=self._overran
            )
        self._timeouts.watch(call_id, limit)

    def _put_back(self, work: Work) -> None:
        self._in_flight.pop(work.call_id, None)
        work.unsent()
        self._queued[work.id] = work
        self._waiting.appendleft(work)

    def _recover(self, works: list[Work]) -> None:
        """Sort out works whose dispatch was interrupted: those that the backend does not carry wait again."""
        for work in reversed(works):
            if work.call_id not in self._in_flight:
                if work.id in self._open and work.id not in self._queued:
                    self._queued[work.id] = work
                    self._waiting.appendleft(work)
            elif self.engine.revoke(work.call_id):
                self._put_back(work)
            else:
                work.sent = True

    def again(self, work: Work, delay: float | None) -> None:
        """Dispatch work another time: after a delay in seconds, or at once and first if it is None (it never began)."""
        self._queued[work.id] = work
        work.sent = False
        if delay is None:
            self._waiting.appendleft(work)
            self.pump()
            return
        self.count("retried")
        if self.clock is None:
            time.sleep(delay)  # in the caller, as the whole task is
            self._wake(work)
        elif delay > 0:
            self.clock.at(time.monotonic() + delay, self._wake, work)
        else:
            self._wake(work)

    def _wake(self, work: Work) -> None:
        if work.id in self._queued:  # else it was cancelled while it rested
            self._waiting.append(work)
            self.pump()

    # ---- cancelling and time limits ---------------------------------------------------------------------------

    def withdraw(self, work: Work, *, running: bool = False) -> bool:
        """Take work back from wherever it is; True if it will not run again and nobody else will end it."""
        while self._queued.pop(work.id, None) is None:
            call_id = work.call_id  # read once: it is another one as soon as the work is dispatched again
            if call_id not in self._in_flight:
                if work.id not in self._queued and work.call_id == call_id:
                    return False
            elif work.sent:
                withdrawn = self._withdraw_sent(work, call_id, running=running)
                if withdrawn is not None:
                    return withdrawn
            elif self._filler == threading.get_ident():
                return False  # this very thread was interrupted in the middle of dispatching it
            else:
                time.sleep(0.0002)  # another thread is just handing it to the backend
        return True

    def _withdraw_sent(self, work: Work, call_id: int, *, running: bool) -> bool | None:
        """Withdraw work from the backend; None if it has just come back from there, and has to be looked for again."""
        if self.engine.revoke(call_id):
            if self._in_flight.pop(call_id, None) is None:
                return None
            self.room(1)
            return True
        if not running:
            return False
        work.withdrawn = True  # before the kill, so that the loss that it makes is not taken for one to be repeated
        if self._kill(call_id):
            return True
        work.withdrawn = False
        if call_id in self._in_flight:
            return False
        self._queued.pop(work.id, None)  # it was answered, or lost, in this very moment: no further attempt
        return True

    def _kill(self, call_id: int) -> bool:
        if not self.settings.capabilities.kills_running_task:
            return False
        return self.engine.revoke(call_id, running=True) and call_id in self._in_flight

    def _overran(self, call_id: int, item: int, limit: float) -> bool:
        work = self._in_flight.get(call_id)
        if work is None or work.withdrawn:
            return True
        work.overrun = (item, limit)
        if self.engine.revoke(call_id, running=True, item=item):
            return True
        work.overrun = None
        return False

    def begun(self, call_id: int) -> Begun | None:
        """Read the mark of a call in flight."""
        work = self._in_flight.get(call_id)
        if work is None:
            return None
        return work.mark or self.engine.begun(call_id)

    # ---- the Host of the backend ------------------------------------------------------------------------------

    def replied(self, call_id: int, payload: bytes | memoryview, buffers: Buffers = ()) -> None:
        work = self._in_flight.get(call_id)
        if work is None:
            self._stray(call_id, "replied")
            return
        try:
            complete = work.replied(payload, buffers)
        except Exception as error:  # noqa: BLE001 - a reply that is not ours must not end the backend's thread
            complete = True
            work.failed(self._broke(f"unreadable reply to call {call_id}: {error!r}"))
        if complete:
            self._in_flight.pop(call_id, None)

    def replied_here(self, call_id: int, payload: bytes | memoryview) -> bool:
        work = self._in_flight.get(call_id)
        return work is not None and work.replied_here(payload)

    def settled(self, call_id: int) -> None:
        self._in_flight.pop(call_id, None)

    def attend(self, work: Work) -> None:
        """Take the answer to work in this thread, which is about to wait for it, if it comes within a moment."""
        if work.sent:
            self.engine.attend(work.call_id)

    def answered_here(self, call_id: int, work: Any, outcome: Any) -> None:
        """Take the outcome of a task that ran in a thread of this process."""
        if self._in_flight.pop(call_id, None) is not None:
            work.settle(outcome)

    def interrupts(self, error: BaseException) -> bool:
        """Say whether what a task raised is meant for the caller in whose thread it runs: Ctrl-C in `serial`."""
        return self._in_caller and isinstance(error, KeyboardInterrupt)

    def lost(self, call_id: int, loss: Loss) -> None:
        work = self._in_flight.pop(call_id, None)
        if work is not None:
            work.lost(loss)
        elif loss.began is not False:  # else it was cancelled on its way back
            self._stray(call_id, "lost")

    def _stray(self, call_id: int, what: str) -> None:
        if self.error is None and not self._stop_once.locked():
            _log.error("parapluie: backend %r %s call %d, which nobody waits for; dropped", self.backend, what, call_id)

    def began(self, call_id: int, *, item: int = 0, at: float | None = None) -> None:
        work = self._in_flight.get(call_id)
        if work is not None:
            work.mark = Begun(item, time.monotonic() if at is None else at)

    def room(self, n: int = 1, /) -> None:
        self._hint = max(1, n)
        self._rooms += 1
        if self._waiting:
            self.pump()

    def started(self) -> None:
        self._failed_starts = 0

    def start_failed(self, why: str, cause: BaseException | None = None) -> None:
        with self._counting:
            self._failed_starts += 1
            tries = self._failed_starts
        if tries >= _START_TRIES:
            self._broken_start(why, cause, tries)

    def _broken_start(self, why: str, cause: BaseException | None, tries: int) -> None:
        self.prepare_for_failure()
        from parapluie.pool_errors import WorkerInitError

        error = WorkerInitError(self.backend, why, tries=tries)
        error.__cause__ = cause
        self.broken(error)

    def refused(self, work: Work, sealed: memoryview) -> None:
        """Take the answer of a worker whose initializer had failed: the call did not begin."""
        cause = open_error(pickle.loads(sealed))
        self.start_failed(f"the initializer raised {worker.describe(cause)}", cause)
        if self.error is None:
            self.again(work, None)

    def prepare(self) -> bool:
        initializer = self.settings.initializer
        if initializer is None or self.error is not None:
            return self.error is None
        try:
            initializer(*self.settings.initargs)
        except BaseException as error:
            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            self._broken_start(f"the initializer raised {worker.describe(error)}", error, 1)
            return False
        return True

    def broken(self, error: BaseException) -> None:
        self.prepare_for_failure()
        from parapluie.pool_errors import BackendBrokenError, WorkerInitError

        if not isinstance(error, BackendBrokenError | WorkerInitError):
            cause, error = error, self._broke(f"backend {self.backend!r} broke: {worker.describe(error)}")
            error.__cause__ = cause
        if self.error is None:
            self.error = error
        for run in list(self.maps.values()):
            run.broken(self.error)
        for work in list(self._open.values()):
            self._queued.pop(work.id, None)
            work.failed(self.error)
        self._request_stop(Stop(self.shutdown.grace, kill=True))

    def _broke(self, what: str) -> BaseException:
        self.prepare_for_failure()
        from parapluie.pool_errors import BackendBrokenError

        return BackendBrokenError(what, backend=self.backend)

    # ---- the end ----------------------------------------------------------------------------------------------

    def count(self, what: str, n: int = 1) -> None:
        """Add to the statistics."""
        with self._counting:
            self._counts[what] += n

    def finished(self, work: Work) -> None:
        """Note that work is over."""
        self._open.pop(work.id, None)
        if self.closing and not self._open:
            self._check_drained()

    def map_fed(self, run: MapRun) -> None:
        """Note that a `map` has read its input to the end, or will read no more of it."""
        self.maps.pop(id(run), None)
        if self.closing and not self._open:
            self._check_drained()

    def close(self, *, wait: bool = True, cancel: bool = False, hurry: bool = False) -> None:
        """Shut down: drain or cancel, then stop the engine.

        Args:
            wait: return when everything has ended.
            cancel: cancel what has not begun; what runs is awaited.
            hurry: what runs gets the grace period only.
        """
        if self._owner != os.getpid():
            return  # a forked child holds a copy: the workers are not its own
        try:
            self._begin_close(wait=wait, cancel=cancel, hurry=hurry)
            if wait:
                self._wait_closed()
        except BaseException:  # Ctrl-C while it closes
            kill = hurry or self._stop_once.locked()
            while not self._closed.is_set():
                try:
                    self._hurry_up(kill=kill)
                    self._wait_closed()
                    break
                except KeyboardInterrupt:  # the second one, wherever it came
                    kill = True
            raise

    def _begin_close(self, *, wait: bool, cancel: bool, hurry: bool) -> None:
        self.closing = True
        if cancel or hurry:
            self._cancel_all()
        for run in list(self.maps.values()):
            run.drain(wait=wait)
        if hurry:
            self._request_stop(Stop(self.shutdown.grace))
        else:
            self._check_drained()

    def _hurry_up(self, *, kill: bool) -> None:
        """Cancel what waits and grant the grace period to what runs; with kill, not even that."""
        self._cancel_all()
        stop = Stop(0.0 if kill else self.shutdown.grace, kill=kill)
        if not self._request_stop(stop) and kill:
            self.engine.stop(stop)

    def close_soon(self) -> None:
        """Shut down without waiting, from a finalizer: nothing here may run in it."""
        if self.clock is None:
            self.close(wait=False)
        else:
            self.clock.post(lambda: self.close(wait=False))

    def _wait_closed(self) -> None:
        if self.clock is None or threading.current_thread() is not self.clock.thread:
            self._closed.wait()

    def _cancel_all(self) -> None:
        for run in list(self.maps.values()):
            run.cancel()
        for work in reversed(list(self._open.values())):
            work.cancel()

    def _check_drained(self) -> None:
        if not self._open and not self.maps:
            self._request_stop(Stop(self.shutdown.grace))

    def _request_stop(self, stop: Stop) -> bool:
        """Have the engine stopped; False if that was asked for already."""
        if not self._stop_once.acquire(blocking=False):
            return False
        self.closing = True
        if self.clock is None:
            self._stop(stop)
        else:
            self.clock.post(self._stop, stop)
        return True

    def _stop(self, stop: Stop) -> None:
        try:
            if self._started:
                self.engine.stop(stop)
        except Exception as error:  # noqa: BLE001 - whatever it raises, what is pending must end now
            _log.exception("parapluie: backend %r failed to stop", self.backend)
            self.error = self.error or self._broke(f"could not stop: {error!r}")
        for work in list(self._open.values()):
            self._queued.pop(work.id, None)
            work.failed(self.error or self._broke("stopped before the task could run"))
        if self._shared is not None:
            self._shared.close()
        self._let_go_of_kept()
        _live.discard(self)
        self._closed.set()
        if self.clock is not None:
            self.clock.stop()

    def shared(self) -> Shared:
        """Return the factories of shared state: the backend's own, or one for this executor."""
        with self._counting:
            if self._shared is None:
                from parapluie.sharing.state import LocalShared, ServerShared

                server = getattr(self.engine, "server", None)
                self._shared = ServerShared(self.context, server) if self.isolated else LocalShared()
        return self._shared

    def stats(self) -> Stats:
        """Return a snapshot; the figures are read one after another while work goes on."""
        in_flight = list(self._in_flight)
        counts = dict(self._counts)
        running = sum(self.begun(call_id) is not None for call_id in in_flight)
        unfinished = sum(work.open_items() for work in list(self._open.values()))
        done = counts["submitted"] - unfinished - counts["failed"] - counts["cancelled"]
        return Stats(
            workers=len(self.engine.workers()),
            queued=max(0, unfinished - running),
            running=running,
            done=max(0, done),
            failed=counts["failed"],
            cancelled=counts["cancelled"],
            retried=counts["retried"],
            lost=counts["lost"],
        )


def _close_all() -> None:
    """Wait at interpreter exit for what was submitted, as the standard executors do."""
    for dispatcher in list(_live):
        dispatcher.close(wait=True)


def _register_exit() -> None:
    """Have what is open closed at exit, before concurrent.futures closes the executors that an engine may consist of.

    It does so before other exit handlers run. All of them run last in, first out; so ours is registered again when
    that module is there by now, and was not the last time.
    """
    there = "concurrent.futures.process" in sys.modules
    if there not in _registered:
        _registered.add(there)
        stdlib_private.before_threads_end(_close_all)


_registered: set[bool] = set()  # whether that module was there
atexit.register(_close_all)  # after that of multiprocessing.util, for the same reason
