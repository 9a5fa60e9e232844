"""The dispatcher: the way of work from the executor that users hold to the backend, and of its answer to the future.

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

Two others share these containers: withdrawal.py takes work back from them, and ending.py ends whatever is in them.
"""

from __future__ import annotations

import itertools
import logging
import pickle
import threading
import time
from collections import deque

from parapluie import logs
from parapluie.backend import Backend, Begun, Buffers, Call, Loss
from parapluie.ending import Ending
from parapluie.errors import ExecutorShutdownError
from parapluie.policies.clock import Clock
from parapluie.replies import open_error
from parapluie.withdrawal import Withdrawal
from parapluie.words import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import BaseContext
    from typing import Any

    from parapluie.mapping import MapRun
    from parapluie.observers import Observers
    from parapluie.policies.shutdown import Shutdown
    from parapluie.settings import Settings
    from parapluie.sharing.channel import Channel
    from parapluie.sharing.inside import Inside
    from parapluie.sharing.session_side import Side
    from parapluie.sharing.state import Shared, SharedState
    from parapluie.stats import Stats
    from parapluie.work import Work

_log = logging.getLogger("parapluie")


class Dispatcher:
    """Moves work to one backend and answers back; the `Host` of that backend.

    It lives until it is closed and everything has ended, whether or not somebody still holds an `Executor`.
    """

    def __init__(
        self, settings: Settings, engine: Backend, shutdown: Shutdown, observers: Observers | None = None
    ) -> None:
        self.observers = observers  # None, in most programs
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
        self.filler = 0  # the thread that fills
        self._rooms = 0  # how often room was announced
        self._full_at = -1  # what that was when the backend last took less than it was offered
        self._began = False  # the backend has taken a call
        self._hint = max(1, settings.max_workers)  # how many calls to offer at a time
        self._counts = dict.fromkeys(("submitted", "failed", "cancelled", "retried", "lost"), 0)
        self._counting = threading.Lock()  # guards _counts, but for "submitted"; held for one addition
        self._in_caller = settings.capabilities.runs_in_caller
        self.clock = None if self._in_caller else Clock(f"parapluie-{self.backend}-clock")
        self._shared: SharedState | None = None  # guarded by _counting while it is made
        self.sessions: dict[int, Side] = {}  # that are open, or end
        self.session_numbers = itertools.count(1)
        self.inside: Inside | None = None  # makes tasks that know shared objects; None while they need not
        self.withdrawal = Withdrawal(self, self._queued, self._in_flight)
        self.ending = Ending(self, self._open, self._queued)
        # Theirs; each task passes here, so they are to be found in one step.
        self._watch, self._stop_once = self.withdrawal.watch, self.ending.stop_once

    def start(self, bootstrap: bytes) -> None:
        """Start the backend. Whatever it raises passes; the dispatcher is closed then."""
        self.bootstrap = bootstrap
        self.ending.expect()
        self.engine.start(self)
        self.ending.engine_started = True

    # ---- submitting -------------------------------------------------------------------------------------------

    def submit(self, work: Work, items: int = 1, *, late: bool = False) -> None:
        """Take work; late allows it while the executor drains, for the rest of a `map`."""
        if self.closing and not late:
            self.refuse()
        if self.error is not None:
            raise self.error
        if self.observers is not None:
            work.tell_submitted(self.observers)
        self._open[work.id] = work
        self._queued[work.id] = work
        self._counts["submitted"] += items
        self._waiting.append(work)
        if self._stop_once.locked() or self.error is not None:  # it happened meanwhile: nobody would answer
            self._open.pop(work.id, None)
            if self._queued.pop(work.id, None) is not None:
                work.tell_cancelled()
                self.refuse()
        self.pump()

    def keep(self, buffers: Sequence[pickle.PickleBuffer]) -> Buffers:
        """Copy the large buffers of work that is to be submitted.

        Raises:
            BufferError: if there are gaps in one.
        """
        return self.engine.keep_buffers([buffer.raw() for buffer in buffers]) if buffers else ()

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
                self.filler = threading.get_ident()
                self._fill()
            finally:
                if self._gate.get(0) is token:
                    self.filler = 0
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
        if taken and not self._began:
            self._began = True
            self.ending.engine_began()
        if taken < len(works):
            self._full_at = rooms
            for work in reversed(works[taken:]):
                self._put_back(work)

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
        if delay is None:
            self.first([work])
            return
        self._queued[work.id] = work
        work.sent = False
        self.count("retried")
        if self.clock is None:
            time.sleep(delay)  # in the caller, as the whole task is
            self._wake(work)
        elif delay > 0:
            self.clock.at(time.monotonic() + delay, self._wake, work)
        else:
            self._wake(work)

    def first(self, works: Sequence[Work]) -> None:
        """Dispatch works that never began, in their order, before all that wait."""
        for work in reversed(works):
            self._queued[work.id] = work
            work.sent = False
            self._waiting.appendleft(work)
        self.pump()

    def _wake(self, work: Work) -> None:
        if work.id in self._queued:  # else it was cancelled while it rested
            self._waiting.append(work)
            self.pump()

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
            work.failed(self.ending.broke(f"unreadable reply to call {call_id}: {error!r}"))
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

    def returned(self, call_id: int, item: int) -> None:
        work = self._in_flight.get(call_id)
        if work is None:
            self._stray(call_id, "returned items of")
        else:
            work.returned(item)

    def _stray(self, call_id: int, what: str) -> None:
        if self.error is None and not self._stop_once.locked():
            _log.error("parapluie: backend %r %s call %d, which nobody waits for; dropped", self.backend, what, call_id)

    def began(self, call_id: int, *, item: int = 0, at: float | None = None) -> None:
        work = self._in_flight.get(call_id)
        if work is not None:
            work.mark = Begun(item, time.monotonic() if at is None else at)

    def logged(self, call_id: int, item: int, pid: int, record: bytes) -> None:
        work = self._in_flight.get(call_id)
        task, attempt = (None, None) if work is None else work.named(item)
        logs.handle(record, task=task, attempt=attempt, worker=f"{self.backend}-{pid}")

    def take_logs(self, work: Work, pid: int, body: memoryview) -> None:
        """Handle the log records that came with a reply."""
        for item, record in pickle.loads(body):
            task, attempt = (None, None) if item is None else work.named(item)
            logs.handle(record, task=task, attempt=attempt, worker=f"{self.backend}-{pid}")

    def room(self, n: int = 1, /) -> None:
        self._hint = max(1, n)
        self._rooms += 1
        if self._waiting:
            self.pump()

    def started(self) -> None:
        self.ending.started()

    def worker_started(self, worker: str, pid: int | None = None) -> None:
        if self.observers is not None:
            self.observers.worker_started(worker, pid)

    def worker_ended(
        self, worker: str, pid: int | None = None, *, exit_code: int | None = None, lost: bool = False, why: str = ""
    ) -> None:
        if self.observers is None:
            return
        if lost:
            self.observers.worker_lost(worker, pid, exit_code, why)
        else:
            self.observers.worker_stopped(worker, pid, exit_code)

    def start_failed(self, why: str, cause: BaseException | None = None) -> None:
        self.ending.start_failed(why, cause)

    def refused(self, work: Work, sealed: memoryview) -> None:
        """Take the answer of a worker whose initializer had failed: the call did not begin."""
        cause = open_error(pickle.loads(sealed))
        self.start_failed(f"the initializer raised {describe(cause)}", cause)
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
            self.ending.cannot_start(f"the initializer raised {describe(error)}", error, 1)
            return False
        return True

    def broken(self, error: BaseException) -> None:
        self.ending.broken(error)

    def begun(self, call_id: int) -> Begun | None:
        """Read the mark of a call in flight."""
        work = self._in_flight.get(call_id)
        if work is None:
            return None
        return work.mark or self.engine.begun(call_id)

    # ---- what is open, and what was counted -------------------------------------------------------------------

    def count(self, what: str, n: int = 1) -> None:
        """Add to the statistics."""
        with self._counting:
            self._counts[what] += n

    def finished(self, work: Work) -> None:
        """Note that work is over."""
        self._open.pop(work.id, None)
        if self.closing and not self._open:
            self.ending.check_drained()

    def map_fed(self, run: MapRun) -> None:
        """Note that a `map` has read its input to the end, or will read no more of it."""
        self.maps.pop(id(run), None)
        if self.closing and not self._open:
            self.ending.check_drained()

    def shared(self) -> Shared:
        """Return the factories of shared state, whose server is the backend's own or one for this executor."""
        with self._counting:
            if self._shared is None:
                from parapluie.settings import need
                from parapluie.sharing.state import local_state, served_state

                why = "its workers cannot reach objects of this program"
                need(self.settings.info, self.settings.capabilities, "shared_state", "executor.shared", why)
                if self.isolated:
                    server = getattr(self.engine, "server", None)
                    alone = self._is_alone if self._in_caller else None
                    self._shared = served_state(self.context, server, self._named, alone)
                else:
                    self._shared = local_state(self._named, self._is_alone)
                self._shared.shared.limits_channels = not self._in_caller
        return self._shared.shared

    def channel(self, maxsize: int, name: str | None) -> Channel[Any]:
        """Make a channel."""
        from parapluie.settings import need

        why = "its workers cannot reach a queue of this program"
        need(self.settings.info, self.settings.capabilities, "channels", "executor.channel", why)
        return self.shared().channel(maxsize, name=name)

    def last_call(self) -> None:
        """Note that the executor is being shut down, so that nobody waits in a channel for what cannot come."""
        if self._shared is not None:
            self._shared.shared.last_call()

    def _named(self, inside: Inside) -> None:
        """Note how tasks find the shared objects."""
        if self.clock is not None:
            from parapluie.starvation import Starvation

            inside.holding = Starvation(self, inside, self._open, self.clock).look_soon
        self.inside = inside

    def _is_alone(self) -> bool:
        """Say whether nothing runs in this program but the calling thread, and so tasks one after another."""
        from parapluie.starting import threads_beside_this

        return self._in_caller and not threads_beside_this()

    def close_shared(self) -> None:
        """Close the shared state, if there is any."""
        if self._shared is not None:
            self._shared.close()

    def stats(self) -> Stats:
        """Return a snapshot; the figures are read one after another while work goes on."""
        from parapluie.stats import snapshot

        in_flight = list(self._in_flight)
        counts = dict(self._counts)
        running = sum(self.begun(call_id) is not None for call_id in in_flight)
        unfinished = sum(work.open_items() for work in list(self._open.values()))
        return snapshot(counts, workers=len(self.engine.workers()), running=running, unfinished=unfinished)
