"""The process engine, parent side: raw `multiprocessing.Process` workers, a duplex pipe and a page for each.

    submitting thread ── dispatch ──▶ Handle.give ─── pipe ──▶ worker (loop.py)
                                          ▲                       │
    collector thread ── flush ────────────┘                       │
          │  ◀── replies (pipe; page, if the worker is quiet or dead) ─── deaths (sentinel)
          └──▶ host.replied, host.lost, host.returned, host.room
    caller who waits ◀── attend.py: the answer to a short call, straight from the pipe

No queue and no lock is shared between workers, so a dead one harms nobody. Who submits writes straight to a worker
with room, and never waits; one thread collects what comes back, but for the short answers that callers take themselves.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from math import inf
from threading import get_ident
from time import monotonic

from parapluie import worker
from parapluie.backend import Backend, Begun, Buffers, Call, Host, Loss, Stop
from parapluie.backends.process.attend import SHORT_SECONDS, Attendance
from parapluie.backends.process.handle import Handle
from parapluie.backends.process.ports import READ, WRITE, Waiter
from parapluie.backends.process.shared import shared_file
from parapluie.backends.process.wire import FREED, PART, READY, REFUSES, REPLY, read_freed, read_reply, split_frames
from parapluie.evidence import OomKills, early_end, evidence_of
from parapluie.memory import MemoryWatch
from parapluie.starting import start_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from parapluie.backends.process.shared import SharedFile
    from parapluie.backends.process.store import CallStore

_log = logging.getLogger("parapluie")
_AHEAD_SECONDS = 0.001  # how much measured work a worker is given ahead: one call at least,
_MOST_AHEAD = 512
_LONG_SECONDS = 0.01  # unless calls take so long that the time between two of them does not matter,
_LONG_CHUNK_SECONDS = 0.05  # longer for chunks, which are so long because that time matters to their items
_IDLE_SECONDS = 0.1  # a worker that begins nothing for so long is relieved by one that is idle
_LOOK_SECONDS = 0.02  # for which a quiet worker's lock is waited for
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # between two looks at a worker that was stopped where it holds its lock
_START_AGAIN_SECONDS = 0.1


class ProcessBackend(Backend):
    """Runs calls in worker processes of its own. Capabilities: everything but being distributed."""

    def start(self, host: Host) -> None:
        self._host = host
        # Re-entrant, since a finalizer or signal handler may come back here in the thread that holds it.
        self._lock = threading.RLock()
        self._handles: dict[int, Handle] = {}  # guarded by _lock, as all below
        self._numbers = 0
        self._seconds = 1.0  # measured, of one call; long at first, so that nothing is given ahead unknown
        self._long = _LONG_SECONDS  # for calls like those that were given last
        self._telling: list[int] = []  # calls whose answer the host is just being told
        self._returning: dict[int, Call] = {}  # taken back, and the host not told yet
        self._cut: dict[int, int] = {}  # calls that end before an item, and the host not told yet
        self._refused = False  # the host offered more than was taken, and waits for `room`
        self._stopping = False
        self._to_flush: set[Handle] = set()
        self._to_watch: set[Handle] = set()
        self._empty = threading.Event()  # set when no worker is left
        self._empty.set()
        self._start_again = 0.0  # when to try again after a start failed; 0: not
        self._start_error: Exception | None = None
        self._oom_kills = OomKills()
        self._watched: dict[int, Handle] = {}  # by the descriptors of its wire and of its sentinel
        self._awake = False  # the collector has something to see to beside what is readable
        self._ended = False
        with ExitStack() as undo:
            self._memory = MemoryWatch(self._note_memory)
            undo.callback(self._memory.stop)
            self._poller = Waiter()  # changed under _lock, waited for by the collector
            undo.callback(self._poller.close)
            self._wake = self._poller.wake
            self._call_file: SharedFile | None = shared_file()
            self._store: CallStore | None = None
            self._attendance = Attendance(self._lock, host, watch=self._watch, answered=self._attended, wake=self._wake)
            self._collector = threading.Thread(target=self._collect, name="parapluie-process-collector", daemon=True)
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
            self._tell(handle)

    def _choose(self, waiting: int) -> tuple[Handle | None, int]:
        """Choose the worker with the least to do, and how many of the waiting calls it gets.

        A worker is started rather than another one kept waiting. One that is busy with tiny calls takes no single ones
        on top: they wait for its next reply and then go together, which costs all of them less.
        """
        best, least, active = self._least_busy()
        if least and active < self._host.max_workers and not self._start_again:
            started = self._start_worker()
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

    def _start_worker(self) -> Handle | None:
        host = self._host
        self._numbers += 1
        others = list(self._handles.values())
        try:
            with start_lock():
                handle = Handle(self._numbers, host.context, host.bootstrap, self._poller, self._call_file, others)
        except Exception as error:  # noqa: BLE001 - no memory, no descriptors, no main guard: the host decides
            self._start_again = monotonic() + _START_AGAIN_SECONDS
            # The collector tells: it holds no lock when it does. The traceback would keep the page and its semaphore.
            self._start_error = error.with_traceback(None)
            self._wake()
            return None
        self._handles[handle.number] = handle
        self._empty.clear()
        self._to_watch.add(handle)
        self._wake()
        return handle

    # ---- taking back ------------------------------------------------------------------------------------------

    def revoke(self, call_id: int, *, running: bool = False, item: int | None = None) -> bool:
        with self._lock:
            if call_id in self._telling:
                return False
            handle = self._holder(call_id)
            if handle is None:
                self._returning.pop(call_id, None)
                return True
            if running and handle.kill_at(call_id, item, "killed on purpose"):
                return True
            taken = self._take_back(handle)
            withdrawn = self._returning.pop(call_id, None) is not None
            if not withdrawn and not running:
                self._cut_short(handle, call_id)
        self._return(taken)  # also if that one has begun: what was taken back with it is not the worker's any more
        return withdrawn

    def _holder(self, call_id: int) -> Handle | None:
        """Return the worker that was given a call. Any thread."""
        for handle in list(self._handles.values()):
            if call_id in handle.calls:
                return handle
        return None

    def _take_back(self, handle: Handle) -> list[Call]:
        taken = handle.take_back()
        self._returning.update(taken)
        return list(taken.values())

    def _return(self, calls: list[Call]) -> None:
        """Give calls that have not begun back to the host, the last first, so that they keep their order."""
        for call in reversed(calls):
            if self._returning.pop(call.id, None) is not None:  # else it was revoked meanwhile
                self._host.lost(call.id, Loss(began=False, why="taken back"))
        if calls:
            self._refused = True  # they wait for room now
            self._wake()

    def _cut_short(self, handle: Handle, call_id: int | None = None) -> bool:
        """Take back what has not begun of the chunk that a worker runs; the collector tells the host."""
        cut = handle.cut(call_id)
        if cut is None:
            return False
        self._cut[cut[0]] = cut[1]
        self._wake()
        return True

    def _tell_cut(self) -> None:
        """Tell the host what was taken back of begun chunks. The collector's, so that it is before their last reply."""
        while self._cut:
            self._host.returned(*self._cut.popitem())

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
                if fd == self._poller.wake_fd:
                    self._poller.drain()
                    self._awake = True
            elif fd == handle.sentinel:
                dead.append(handle)
            else:
                if events & WRITE:
                    self._flush(handle)
                if events & READ and self._receive(handle):
                    self._hang_up(handle)
        for handle in dead:
            self._bury(handle)
        if self._awake:
            self._awake = False
            self._keep_house()
        if self._refused:
            self._announce_room()

    def _timeout(self) -> float | None:
        """Return for how long nothing has to be looked at; None if only an event can change that."""
        due = min(self._start_again or inf, self._attendance.next_look)
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
                self._telling = [number for number, _, _ in answers]
                handle.answered(monotonic())
        self._tell_cut()
        for call_id, replies, buffers in answers:
            read = buffers and handle.read_buffers(buffers)
            self._host.replied(call_id, replies[0] if len(replies) == 1 else worker.join(replies), read)
        self._telling = []
        if any(buffers for _, _, buffers in answers):
            with self._lock:
                handle.buffers_read()
        if self._store is not None:
            self._store.tidy()

    def _take_news(self, handle: Handle, kind: int, body: memoryview) -> None:
        if kind == FREED:
            handle.freed(read_freed(body))
        elif kind in {READY, REFUSES}:
            handle.ready = True
            if kind == READY:  # else its initializer failed: not to be forgotten before the call says so
                self._host.started()

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
        with self._lock:
            self._handles.pop(handle.number, None)
            self._to_flush.discard(handle)
            self._to_watch.discard(handle)
            found = evidence_of(handle.process.exitcode, handle.dump, self._oom_kills, ours=bool(handle.killed))
            losses = handle.losses(found)
            self._telling = [call.id for call, loss in losses if loss.began]
            self._returning.update((call.id, call) for call, loss in losses if not loss.began)
            self._refused = True  # whoever waits for room may now have some
            early, why = not handle.ready and not self._stopping, handle.killed
            exit_code = handle.process.exitcode
            self._unwatch(handle)
            handle.close()
        if early:
            self._host.start_failed(why or early_end("a worker", exit_code, found))
        self._tell_cut()
        for call, loss in losses:
            if loss.began or self._returning.pop(call.id, None) is not None:
                self._host.lost(call.id, loss)
        self._telling = []
        if not self._handles:
            self._empty.set()

    def _keep_house(self) -> None:
        """Do what is due: watch new workers, finish writes, end slow starts, look after quiet workers."""
        now = monotonic()
        self._attendance.look(now)
        with self._lock:
            for handle in self._to_watch:
                handle.watched = True
                for fd in (handle.wire.fd, handle.sentinel):
                    self._watched[fd] = handle
                    self._poller.watch(fd, READ)
            self._to_watch.clear()
            for handle in list(self._to_flush):
                self._flush(handle)
            if self._start_again and self._start_again <= now:
                self._start_again = 0.0
                self._refused = True
            error, self._start_error = self._start_error, None
            handles = list(self._handles.values())
        self._tell_cut()
        if error is not None and not any(handle.ready for handle in handles):  # else the others go on, and it passes
            self._host.start_failed(f"a process could not be started: {type(error).__name__}: {error}", error)
        for handle in handles:
            if not handle.ready and not handle.killed:
                self._end_slow_start(handle, now)
            if handle.behind and now - handle.heard >= handle.patience:
                self._look_after(handle, now)
            if handle.wire.torn and not handle.told:
                self._retire_torn(handle)

    def _end_slow_start(self, handle: Handle, now: float) -> None:
        if now >= handle.started + self._host.start_timeout:
            handle.killed = f"a worker was not ready after start_timeout={self._host.start_timeout:g} seconds"
            handle.process.kill()

    def _look_after(self, handle: Handle, now: float) -> None:
        """Read a quiet worker's sealed replies, and take back what is held up behind what it runs."""
        if handle.ready:
            replies = handle.sealed_replies(_LOOK_SECONDS)
            if replies is None:  # stopped just where it holds its lock: to ask takes time that others need
                handle.pause = min(2 * handle.pause or _FIRST_PAUSE, _LONGEST_PAUSE)
                handle.heard = now + handle.pause
                return
            handle.pause = 0.0
            self._take_page(handle, replies)
        with self._lock:
            handle.heard = now
            handle.behind = not handle.ready or handle.has_more()
            held_up = handle.behind and self._holds_up(handle, now)
            taken = self._take_back(handle) if held_up else []
            cut = held_up and self._cut_short(handle)
            if taken or cut:
                handle.stuck = True
                self._seconds = max(self._seconds, _AHEAD_SECONDS)  # a surprise: nobody is given much ahead now
            if taken or cut or (held_up and handle.ready and len(handle.calls) == 1):  # else there is nothing to take
                handle.behind = False
        if held_up and handle.ready:  # it may have sealed more before it was asked, and from now on nobody looks
            self._take_page(handle, handle.sealed_replies(_LOOK_SECONDS))
        self._tell_cut()
        self._return(taken)

    def _holds_up(self, handle: Handle, now: float) -> bool:
        """Say whether what a quiet worker has not begun had better run elsewhere.

        That is where others have nothing to do, and else when the call, or the item of a chunk, takes longer than calls
        did so far. One that has begun nothing of what it was given is starting, reading, or was not let run: it is only
        relieved by another one that is ready, and never in the middle of a message, which would have to be written once
        more.
        """
        idle, active = False, 0
        for other in self._handles.values():
            idle = idle or (other.ready and not other.calls and not other.retiring)
            active += other.active
        seconds = handle.busy_for(now)
        if seconds is not None:
            return idle or active < self._host.max_workers or seconds > 2 * self._seconds
        patience = _IDLE_SECONDS if handle.ready else 0.0
        return idle and not handle.wire.unsent and now - handle.last_given > patience

    def _retire_torn(self, handle: Handle) -> None:
        """End a worker whose stream is broken off in the middle of a frame: it must not read any further."""
        with self._lock:
            taken = self._take_back(handle)
            if not handle.calls:
                handle.told = True
                handle.killed = "its stream was interrupted"
                handle.process.kill()
        self._return(taken)

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

    def _note_memory(self) -> bool:
        """Look at the memory of workers that run something; False if none does. Runs in the watch's thread."""
        with self._lock:
            busy = [handle for handle in self._handles.values() if handle.calls]
            self._memory.dozing = not busy
        for handle in busy:
            handle.note_memory()
        return bool(busy)

    def _flush(self, handle: Handle) -> None:
        """Go on with a write that was cut short, now and whenever the pipe takes more."""
        with self._lock:
            done = handle.wire.flush()
            self._to_flush.discard(handle)
            if handle.watched:
                self._watch(handle)
            elif not done:
                self._to_flush.add(handle)

    def _watch(self, handle: Handle) -> None:
        """Watch a worker's pipe for what there is to do; but for its end, nothing where a caller attends."""
        if handle.watched:
            reads = READ if handle.attendant is None else 0
            self._poller.watch(handle.wire.fd, reads | WRITE if handle.wire.unsent else reads)

    def _hang_up(self, handle: Handle) -> None:
        """Read no more from a worker that has closed its end; its sentinel says the rest."""
        with self._lock:
            handle.retiring = True
            handle.watched = False
            self._poller.forget(handle.wire.fd)

    def _unwatch(self, handle: Handle) -> None:
        handle.watched = False
        for fd in (handle.wire.fd, handle.sentinel):
            if self._watched.pop(fd, None) is not None:
                self._poller.forget(fd)

    # ---- the end ----------------------------------------------------------------------------------------------

    def _tell(self, handle: Handle) -> None:
        if not handle.send_sentinel():
            self._to_flush.add(handle)
            self._wake()

    def stop(self, stop: Stop) -> None:
        with self._lock:
            self._stopping = True
            for handle in self._handles.values():
                if not handle.told:
                    self._tell(handle)
        self._wake()
        if not stop.kill and not self._empty.wait(stop.grace):
            self._force("terminate", "terminated", stop.grace)
            self._empty.wait(stop.grace)
        while not self._empty.is_set():
            self._force("kill", "killed", stop.grace)
            if not self._collector.is_alive():  # it failed, and the executor is broken: nobody else would
                for handle in list(self._handles.values()):
                    self._bury(handle)
            self._empty.wait(1.0)
        self._end_collector()

    def _force(self, method: str, done: str, grace: float) -> None:
        with self._lock:
            handles = list(self._handles.values())
            for handle in handles:
                handle.killed = handle.killed or f"{done} at shutdown"
                getattr(handle.process, method)()
        if handles:
            pids = ", ".join(str(handle.pid) for handle in handles)
            when = f"did not stop within {grace:g} seconds" if grace else "was told not to wait"
            _log.warning(
                "parapluie: backend %r %s: workers still running (pids %s); %s", self._host.backend, when, pids, done
            )

    def _end_collector(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._wake()
        if threading.current_thread() is not self._collector:
            self._collector.join()
        self._memory.stop()
        self._poller.close()
        self._let_go_of_files()

    def _let_go_of_files(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._call_file = None

    def workers(self) -> tuple[str, ...]:
        return tuple(handle.name for handle in list(self._handles.values()))


_Answer = tuple[int, list[memoryview], list["Any"]]  # call, replies, buffers of all of them


def _gather(answers: list[_Answer], number: int, payload: memoryview, buffers: list[Any]) -> None:
    """Add a reply; one to the same call as the last is told together with that, unless it is empty."""
    if answers and answers[-1][0] == number and not worker.is_empty(payload):
        answers[-1][1].append(payload)
        answers[-1][2].extend(buffers)
    else:
        answers.append((number, [payload], buffers))
