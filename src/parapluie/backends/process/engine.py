"""The process engine, parent side: the way of calls to workers, and of what comes back to the host.

    submitting thread ── dispatch ─▶ _give ─▶ Handle.give ─── pipe ──▶ worker (loop.py)
                                                  ▲                       │
    collector thread ── Workers.flush ────────────┘                       │
          │  ◀── replies (pipe; page, if the worker is quiet or dead) ─── deaths (sentinel)
          └─▶ _take_frames, _bury ──▶ host.replied, host.lost; _announce_room ──▶ host.room ──▶ dispatch
    caller who waits ◀── attend.py: the answer to a short call, straight from the pipe

A worker is a raw `multiprocessing.Process` with a duplex pipe and a page of memory. No queue and no lock is shared
between workers, so a dead one harms nobody. Who submits writes straight to a worker with room, and never waits; one
thread collects what comes back, but for the short answers that callers take themselves.

Beside this way: workers.py starts workers, has their pipes watched and ends them; relief.py takes back from them what
they have not begun.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from math import inf
from threading import get_ident
from time import monotonic

from parapluie import call_format
from parapluie.backend import Backend, Begun, Buffers, Call, Host, Stop
from parapluie.backends.process.attend import SHORT_SECONDS, Attendance
from parapluie.backends.process.ports import READ, WRITE, Waiter
from parapluie.backends.process.relief import Relief
from parapluie.backends.process.wire import (
    FREED,
    LOGGED,
    PART,
    READY,
    REFUSES,
    REPLY,
    read_freed,
    read_reply,
    split_frames,
)
from parapluie.backends.process.workers import Workers
from parapluie.evidence import OomKills, early_end, evidence_of
from parapluie.logs import log_pipe
from parapluie.main_guard import told_by_worker
from parapluie.shared_memory import shared_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.backends.process.handle import Handle
    from parapluie.backends.process.store import CallStore
    from parapluie.shared_memory import SharedFile

_log = logging.getLogger("parapluie")
_AHEAD_SECONDS = 0.001  # how much measured work a worker is given ahead: one call at least,
_MOST_AHEAD = 512
_LONG_SECONDS = 0.01  # unless calls take so long that the time between two of them does not matter,
_LONG_CHUNK_SECONDS = 0.05  # longer for chunks, which are so long because that time matters to their items


class ProcessBackend(Backend):
    """Runs calls in worker processes of its own. Capabilities: everything but being distributed."""

    def start(self, host: Host) -> None:
        self._host = host
        # Re-entrant, since a finalizer or signal handler may come back here in the thread that holds it.
        self._lock = threading.RLock()
        # Guarded by _lock, as all below: measured, of one call; long at first, so that nothing is given ahead unknown.
        self._seconds = 1.0
        self._long = _LONG_SECONDS  # for calls like those that were given last
        self._refused = False  # the host offered more than was taken, and waits for `room`
        self._stopping = False
        self._oom_kills = OomKills()
        self._awake = False  # the collector has something to see to beside what is readable
        self._ended = False
        with ExitStack() as undo:
            self._poller = Waiter()  # changed under _lock, waited for by the collector
            undo.callback(self._poller.close)
            self._wake = self._poller.wake
            self._call_file: SharedFile | None = shared_file()
            self._store: CallStore | None = None
            self._logs = log_pipe(host)
            undo.callback(self._logs.close)
            self._workers = workers = Workers(self._lock, host, self._poller, self._logs)
            undo.callback(workers.memory.stop)
            self._relief = relief = Relief(
                self._lock,
                host,
                workers,
                take_page=self._take_page,
                seconds=lambda: self._seconds,
                surprised=self._surprised,
                want_room=self._want_room,
                wake=self._wake,
            )
            # Theirs; each call or reply passes here, so they are to be found in one step.
            self._handles, self._holder, self._memory = workers.handles, workers.holder, workers.memory
            self._watched, self._to_flush = workers.watched, workers.to_flush
            self._telling, self._tell_cut = relief.telling, relief.tell_cut
            self._attendance = Attendance(
                self._lock, host, watch=workers.watch, answered=self._attended, wake=self._wake
            )
            self._collector = threading.Thread(target=self._collect, name="parapluie-process-collector", daemon=True)
            self._log_fd = self._logs.reader
            if self._log_fd is not None:
                self._poller.watch(self._log_fd, READ)
            self._collector.start()
            undo.pop_all()

    # ---- dispatching ------------------------------------------------------------------------------------------

    def keep_buffers(self, buffers: Sequence[memoryview], /) -> Buffers:
        store = self._store or self._make_store()
        return tuple(map(store.keep, buffers))

    def _make_store(self) -> CallStore:
        from parapluie.backends.process.store import CallStore

        with self._lock:
            store = self._store = self._store or CallStore(self._call_file)
        return store

    def dispatch(self, calls: Sequence[Call], /) -> int:
        taken, offered = 0, len(calls)
        with self._lock:
            while taken < offered and not self._stopping:
                handle, count = self._choose(offered - taken)
                if handle is None:
                    break
                self._give(handle, calls[taken : taken + count])
                taken += count
            if taken < offered:
                self._refused = True
        return taken

    def _give(self, handle: Handle, batch: Sequence[Call]) -> None:
        self._long = _LONG_SECONDS if batch[0].items == 1 else _LONG_CHUNK_SECONDS
        try:
            if not handle.calls:
                # It was idle: it is not quiet, it had nothing to say.
                handle.heard = handle.last_given = monotonic()
                if self._memory.dozing:
                    self._memory.wake()
            if not handle.behind and (not handle.ready or len(handle.calls) + len(batch) > 1 or batch[0].items > 1):
                handle.behind = True
                if get_ident() != self._collector.ident:
                    self._wake()  # it has to look whether what is behind gets held up
            if not handle.give(batch):
                self._to_flush.add(handle)
                self._wake()
        finally:
            if handle.wire.torn:  # interrupted: the worker ends when it has done what it surely got
                handle.retiring = True
                self._wake()
        limit = self._host.max_tasks_per_child
        if limit is not None and handle.given >= limit and not handle.told:
            self._workers.tell(handle)

    def _choose(self, waiting: int) -> tuple[Handle | None, int]:
        """Choose the worker with the least to do, and how many of the waiting calls it gets.

        A worker is started rather than another one kept waiting. One that is busy with tiny calls takes no single ones
        on top: they wait for its next reply and then go together, which costs all of them less.
        """
        best, least, active = self._least_busy()
        if least and active < self._host.max_workers:
            started = self._workers.start(self._call_file)
            if started is not None:
                best, least = started, 0
        if best is None:
            return None, 0
        if not least and waiting == 1:
            return best, 1
        ahead = self._ahead()
        count = min(ahead - least, -(-waiting // self._host.max_workers))
        if least and count < max(1, ahead // 4):
            return None, 0
        limit = self._host.max_tasks_per_child
        if limit is not None:
            count = min(count, limit - best.given)
        return best, max(1, count)

    def _least_busy(self) -> tuple[Handle | None, int, int]:
        """Return the worker with the fewest calls (the first idle one will do), how many, and the active workers."""
        best, least, active = None, _MOST_AHEAD + 1, 0
        for handle in self._handles.values():
            active += handle.active
            count = len(handle.calls)
            if handle.retiring or (handle.stuck and count):
                continue
            if count < least:
                best, least = handle, count
                if not count:
                    break
        return best, least, active

    def _ahead(self) -> int:
        """Return how many calls a worker may have: the one it runs, and about a millisecond of measured work."""
        seconds = self._seconds
        return 1 if seconds > self._long else 1 + max(1, min(_MOST_AHEAD - 1, int(_AHEAD_SECONDS / seconds)))

    # ---- for who waits, or cancels ----------------------------------------------------------------------------

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        return self._relief.revoke(call_id, running=running, item=item)

    def begun(self, call_id: int) -> Begun | None:
        handle = self._holder(call_id)
        return None if handle is None else handle.begun(call_id)

    def attend(self, call_id: int) -> None:
        handle = self._holder(call_id)
        if (
            handle is not None
            and self._seconds <= SHORT_SECONDS
            and self._poller.pauses
            and get_ident() != self._collector.ident
        ):
            self._attendance.attend(handle)

    def _attended(self, handle: Handle, seconds: float) -> None:
        handle.answered(monotonic())
        self._learn(seconds)
        if self._refused:
            self._wake()  # to announce room

    def _want_room(self) -> None:
        """Have the collector announce room: calls that were taken back wait for it."""
        self._refused = True
        self._wake()

    def _surprised(self) -> None:
        """Note that a call takes long, where it was not expected: nobody is given much ahead now."""
        self._seconds = max(self._seconds, _AHEAD_SECONDS)

    # ---- collecting -------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        self._memory.start()  # in here, since to start a thread may take milliseconds where all CPUs are busy
        try:
            while not self._ended:
                self._collect_once()
        except BaseException as error:  # noqa: BLE001 - without its collector the engine is gone, and must say so
            _log.exception("parapluie: the collector of backend %r failed", self._host.backend)
            self._host.broken(error)

    def _collect_once(self) -> None:
        dead: list[Handle] = []
        for fd, events in self._poller.wait(self._timeout()):
            handle = self._watched.get(fd)
            if handle is None:
                self._take_event(fd)
            elif fd == handle.sentinel:
                dead.append(handle)
            else:
                if events & WRITE:
                    self._workers.flush(handle)
                if events & READ and self._receive(handle):
                    self._workers.hang_up(handle)
        for handle in dead:
            self._bury(handle)
        if self._awake:
            self._awake = False
            self._keep_house()
        if self._refused:
            self._announce_room()

    def _take_event(self, fd: int) -> None:
        if fd == self._poller.wake_fd:
            self._poller.drain()
            self._awake = True
        elif fd == self._log_fd:
            self._logs.drain()

    def _timeout(self) -> float | None:
        """Return for how long nothing has to be looked at; None if only an event can change that."""
        due = min(self._workers.start_again, self._attendance.next_look)
        for handle in list(self._handles.values()):
            if handle.behind:
                due = min(due, handle.heard + handle.patience)
            if not handle.ready and not handle.killed:
                due = min(due, handle.started + self._host.start_timeout)
        if due == inf:
            return None
        left = due - monotonic()
        if left <= 0:
            self._awake = True
            return 0
        return left

    def _receive(self, handle: Handle) -> bool:
        with self._lock:
            if handle.attendant is not None:  # it came between the event and us
                return False
            handle.receiving = True
        frames, closed = handle.wire.receive()
        self._take_frames(handle, frames)
        return closed

    def _take_page(self, handle: Handle, replies: bytes | None) -> None:
        if replies:
            self._take_frames(handle, split_frames(memoryview(replies))[0])

    def _take_frames(self, handle: Handle, frames: list[tuple[int, memoryview]]) -> None:
        """Answer the calls that frames reply to.

        Replies are seen twice, in the page and in the pipe, and the page may be ahead of the pipe; so one that was
        taken is passed over, and one whose predecessor is still in the pipe is left for later.
        """
        answers: list[_Answer] = []
        with self._lock:
            handle.receiving = False
            for kind, body in frames:
                if kind == REPLY or kind == PART:  # noqa: PLR1714, SIM109 - twice as fast as a set
                    serial, number, seconds, payload, buffers = read_reply(body)
                    if serial != handle.serial + 1:
                        continue
                    handle.serial = serial
                    if number not in handle.calls:
                        continue
                    if kind == REPLY:
                        del handle.calls[number]
                        self._learn(seconds)
                    _gather(answers, number, payload, buffers)
                else:
                    self._take_news(handle, kind, body)
            if answers:
                self._telling[:] = [number for number, _, _ in answers]
                handle.answered(monotonic())
        self._before_answers(handle)
        for call_id, replies, buffers in answers:
            read = buffers and handle.read_buffers(buffers)
            self._host.replied(call_id, replies[0] if len(replies) == 1 else call_format.join(replies), read)
        self._telling.clear()
        if handle.has_read:
            with self._lock:
                handle.tell_read()
        if self._store is not None:
            self._store.tidy()

    def _before_answers(self, handle: Handle) -> None:
        if handle.news:
            news, handle.news = handle.news, []
            if READY in news:
                self._host.worker_started(self._name_of(handle), handle.pid)
            if LOGGED in news:
                self._logs.drain()
        self._tell_cut()

    def _name_of(self, handle: Handle) -> str:
        return f"{self._host.backend}-{handle.pid}"

    def _take_news(self, handle: Handle, kind: int, body: memoryview) -> None:
        if kind == FREED:
            handle.freed(read_freed(body))
        elif kind == LOGGED:
            handle.news.append(kind)
        elif kind in {READY, REFUSES}:
            handle.ready = True
            if kind == READY:  # else its initializer failed: not to be forgotten before the call says so
                self._host.started()
                handle.news.append(kind)

    def _learn(self, seconds: float) -> None:
        """Learn how long a call takes: a slow one counts at once, fast ones by and by."""
        known = self._seconds
        self._seconds = max(1e-7, seconds if seconds > known else 0.7 * known + 0.3 * seconds)

    def _bury(self, handle: Handle) -> None:
        """Answer everything that a dead worker leaves, and forget it."""
        handle.reap()
        self._attendance.dead(handle)
        self._receive(handle)
        self._take_page(handle, handle.sealed_replies())
        self._logs.worker_died(handle.pid)
        with self._lock:
            self._workers.forget(handle)
            found = evidence_of(handle.process.exitcode, handle.dump, self._oom_kills, ours=bool(handle.killed))
            losses = handle.losses(found)
            self._relief.dead(losses)
            self._refused = True  # whoever waits for room may now have some
            early, why = not handle.ready and not self._stopping, handle.killed
            cause = told_by_worker(handle.dump) if early else None
            exit_code = handle.process.exitcode
            handle.close()
        lost = not handle.told or any(loss.began for _, loss in losses)
        self._host.worker_ended(self._name_of(handle), handle.pid, exit_code=exit_code, lost=lost, why=why)
        if early:
            self._host.start_failed(why or early_end("a worker", exit_code, found), cause)
        self._relief.tell_losses(losses)
        if not self._handles:
            self._workers.none_left.set()

    def _keep_house(self) -> None:
        """Do what is due: watch new workers, finish writes, end slow starts, look after quiet workers."""
        now = monotonic()
        self._attendance.look(now)
        with self._lock:
            self._workers.watch_new()
            self._workers.flush_all()
            if self._workers.try_again(now):
                self._refused = True
            error = self._workers.take_start_error()
            handles = list(self._handles.values())
        self._tell_cut()
        if error is not None:
            self._workers.tell_start_error(error)
        for handle in handles:
            if not handle.ready and not handle.killed:
                self._workers.end_slow_start(handle, now)
            if handle.behind and now - handle.heard >= handle.patience:
                self._relief.look_after(handle, now)
            if handle.wire.torn and not handle.told:
                self._relief.end_torn(handle)

    def _announce_room(self) -> None:
        with self._lock:
            ahead, room, active = self._ahead(), 0, 0
            for handle in self._handles.values():
                active += handle.active
                if not handle.retiring and not (handle.stuck and handle.calls):
                    room += max(0, ahead - len(handle.calls))
            room += max(0, self._host.max_workers - active)
            if not room or self._stopping:
                return
            self._refused = False
        self._host.room(room)

    # ---- the end ----------------------------------------------------------------------------------------------

    def stop(self, stop: Stop) -> None:
        with self._lock:
            self._stopping = True
            self._workers.tell_all()
        self._wake()
        self._workers.end(stop, self._collector, self._bury)
        self._end_collector()

    def _end_collector(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._wake()
        if threading.current_thread() is not self._collector:
            self._collector.join()
        self._memory.stop()
        self._logs.close()
        self._poller.close()
        with self._lock:  # a task that is being submitted may make the store
            self._call_file = None
            if self._store is not None:
                self._store.close()

    def workers(self) -> tuple[str, ...]:
        return tuple(handle.name for handle in list(self._handles.values()))


_Answer = tuple[int, list[memoryview], list["Any"]]  # call, replies, buffers of all of them


def _gather(answers: list[_Answer], number: int, payload: memoryview, buffers: list[Any]) -> None:
    """Add a reply; one to the same call as the last is told together with that, unless it is empty."""
    if answers and answers[-1][0] == number and not call_format.is_empty(payload):
        answers[-1][1].append(payload)
        answers[-1][2].extend(buffers)
    else:
        answers.append((number, [payload], buffers))
