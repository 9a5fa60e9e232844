"""The process engine, parent side: raw `multiprocessing.Process` workers, a duplex pipe and a page for each.

    submitting thread ── dispatch ──▶ Handle.give ─── pipe ──▶ worker (loop.py)
                                          ▲                       │
    collector thread ── flush ────────────┘                       │
          │  ◀── replies (pipe; page, if the worker is quiet or dead) ─── deaths (sentinel)
          └──▶ host.replied, host.lost, host.room

No queue and no lock is shared between workers, so a dead one harms nobody. Who submits writes straight to a worker
with room, and never waits; one thread collects everything that comes back.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
from collections.abc import Sequence
from time import monotonic

from parapluie.backend import Backend, Begun, Call, Host, Loss, Stop
from parapluie.backends.process.handle import Handle
from parapluie.backends.process.wire import PART, READY, REFUSES, REPLY, read_reply, split_frames
from parapluie.evidence import OomKills, evidence_of
from parapluie.memory import MemoryWatch
from parapluie.starting import start_lock

_log = logging.getLogger("parapluie")
_AHEAD_SECONDS = 0.001  # how much measured work a worker is given ahead
_MOST_AHEAD = 512
_QUIET_SECONDS = 0.003  # a worker with calls that is quiet for so long is looked after
_START_AGAIN_SECONDS = 0.1


class ProcessBackend(Backend):
    """Runs calls in worker processes of its own. Capabilities: everything but being distributed."""

    def start(self, host: Host) -> None:
        self._host = host
        # Re-entrant, since a finalizer or signal handler may come back here in the thread that holds it.
        self._lock = threading.RLock()
        self._handles: dict[int, Handle] = {}  # guarded by _lock, as all below
        self._where: dict[int, tuple[Handle, int]] = {}  # call id -> its worker and its number there
        self._numbers = 0
        self._seconds = 1.0  # measured, of one call; long at first, so that nothing is given ahead unknown
        self._stopping = False
        self._to_flush: set[Handle] = set()
        self._to_watch: set[Handle] = set()
        self._empty = threading.Event()  # set when no worker is left
        self._empty.set()
        self._start_again = 0.0  # when to try again after a start failed; 0: not
        self._start_error: Exception | None = None
        self._oom_kills = OomKills()
        self._memory = MemoryWatch(self._note_memory)
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._ended = False
        self._collector = threading.Thread(target=self._collect, name="parapluie-process-collector", daemon=True)
        self._collector.start()

    # ---- dispatching ------------------------------------------------------------------------------------------

    def dispatch(self, calls: Sequence[Call], /) -> int:
        taken = 0
        with self._lock:
            while taken < len(calls) and not self._stopping:
                handle = self._with_room()
                if handle is None:
                    break
                count = min(self._share(handle, len(calls) - taken), len(calls) - taken)
                batch = calls[taken : taken + count]
                for number, call in enumerate(batch, handle.given + 1):
                    self._where[call.id] = handle, number
                taken += count
                self._give(handle, batch)
        return taken

    def _give(self, handle: Handle, batch: Sequence[Call]) -> None:
        try:
            if not handle.calls:
                handle.heard = monotonic()  # it was idle: it is not quiet, it had nothing to say
                if self._memory.dozing:
                    self._memory.wake()
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

    def _with_room(self) -> Handle | None:
        """Choose the worker with the least to do; start one rather than queue behind a busy one."""
        best = None
        active = 0
        for handle in self._handles.values():
            active += handle.active
            if handle.retiring:
                continue
            if not handle.calls:
                return handle
            if best is None or len(handle.calls) < len(best.calls):
                best = handle
        if active < self._host.max_workers and not self._start_again:
            started = self._start_worker()
            if started is not None:
                return started
        if best is not None and len(best.calls) < self._ahead():
            return best
        return None

    def _ahead(self) -> int:
        """Return how many calls a worker may have: the one it runs, and about a millisecond of measured work."""
        return 1 + min(_MOST_AHEAD, int(_AHEAD_SECONDS / self._seconds))

    def _share(self, handle: Handle, waiting: int) -> int:
        """Return how many calls to give to one worker, so that all get as many."""
        limit = self._host.max_tasks_per_child
        count = min(self._ahead() - len(handle.calls), -(-waiting // self._host.max_workers))
        if limit is not None:
            count = min(count, limit - handle.given)
        return max(1, count)

    def _start_worker(self) -> Handle | None:
        host = self._host
        self._numbers += 1
        others = [handle.wire.fd for handle in self._handles.values()]
        try:
            with start_lock():
                handle = Handle(
                    self._numbers, host.context, host.bootstrap, [*others, self._wake_read, self._wake_write]
                )
        except Exception as error:  # noqa: BLE001 - no memory, no descriptors, no main guard: the host decides
            self._start_again = monotonic() + _START_AGAIN_SECONDS
            self._start_error = error  # the collector tells: it holds no lock when it does
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
            found = self._where.get(call_id)
            if found is None:
                return True
            handle, number = found
            if running and handle.kill_at(number, item, "killed on purpose"):
                return True
            taken = self._take_back(handle)
            withdrawn = taken.pop(number, None) is not None
        self._return(taken)  # also if that one has begun: what was taken back with it is not the worker's any more
        return withdrawn

    def _take_back(self, handle: Handle) -> dict[int, Call]:
        taken = handle.take_back()
        for call in taken.values():
            self._where.pop(call.id, None)
        return taken

    def _return(self, taken: dict[int, Call]) -> None:
        """Give calls that have not begun back to the host, the last first, so that they keep their order."""
        for call in reversed(taken.values()):
            self._host.lost(call.id, Loss(began=False, why="taken back"))

    def begun(self, call_id: int) -> Begun | None:
        found = self._where.get(call_id)
        return None if found is None else found[0].begun(found[1])

    # ---- collecting -------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except (BlockingIOError, OSError):
            return  # full: it is awake already; closed: there is nobody to wake

    def _collect(self) -> None:
        try:
            while not self._ended:
                self._collect_once()
        except BaseException as error:  # noqa: BLE001 - without its collector the engine is gone, and must say so
            _log.exception("parapluie: the collector of backend %r failed", self._host.backend)
            self._host.broken(error)

    def _collect_once(self) -> None:
        readable: dict[Handle, None] = {}
        dead: dict[Handle, None] = {}
        for key, events in self._selector.select(self._timeout()):
            if key.data is None:
                self._drain_wakeups()
                continue
            handle, is_sentinel = key.data
            if is_sentinel:
                dead[handle] = None
            else:
                if events & selectors.EVENT_WRITE:
                    self._flush(handle)
                if events & selectors.EVENT_READ:
                    readable[handle] = None
        for handle in readable:
            if handle not in dead and self._receive(handle):
                self._selector.unregister(handle.wire.fd)  # closed by the worker: its sentinel says the rest
                handle.retiring = True
        for handle in dead:
            self._bury(handle)
        self._keep_house()
        self._announce_room()

    def _drain_wakeups(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return

    def _timeout(self) -> float | None:
        """Return for how long nothing has to be looked at."""
        now = monotonic()
        times = [self._start_again] if self._start_again else []
        with self._lock:
            idle = any(not handle.calls for handle in self._handles.values())
            for handle in self._handles.values():
                if not handle.ready and not handle.killed:
                    times.append(handle.started + self._host.start_timeout)
                elif len(handle.calls) > 1 or (handle.calls and idle and self._seconds < _QUIET_SECONDS):
                    times.append(max(handle.heard + _QUIET_SECONDS, now + _QUIET_SECONDS / 2))
        return max(0.0, min(times) - now) if times else None

    def _receive(self, handle: Handle) -> bool:
        frames, closed = handle.wire.receive()
        self._take_frames(handle, frames)
        return closed

    def _take_page(self, handle: Handle) -> None:
        self._take_frames(handle, split_frames(memoryview(handle.sealed_replies()))[0])

    def _take_frames(self, handle: Handle, frames: list[tuple[int, memoryview]]) -> None:
        """Answer the calls that frames reply to. A reply that was read before, from the page, is passed over."""
        answers = []
        with self._lock:
            for kind, body in frames:
                if kind in {READY, REFUSES}:
                    handle.ready = True
                    if kind == READY:  # else its initializer failed: not to be forgotten before the call says so
                        self._host.started()
                    continue
                serial, number, seconds, payload, buffers = read_reply(body)
                call = handle.calls.get(number)
                if not handle.is_next(serial) or call is None:
                    continue
                if kind == REPLY:
                    del handle.calls[number]
                    self._where.pop(call.id, None)
                    if call.items == 1:
                        self._learn(seconds)
                elif kind != PART:
                    continue
                answers.append((call.id, payload, buffers))
        if answers:
            handle.heard = monotonic()
        for call_id, payload, buffers in answers:
            self._host.replied(call_id, payload, buffers)

    def _learn(self, seconds: float) -> None:
        """Learn how long a call takes: a slow one counts at once, fast ones by and by."""
        known = self._seconds
        self._seconds = max(1e-7, seconds if seconds > known else 0.7 * known + 0.3 * seconds)

    def _bury(self, handle: Handle) -> None:
        """Answer everything that a dead worker leaves, and forget it."""
        handle.reap()
        self._receive(handle)
        self._take_page(handle)
        with self._lock:
            self._handles.pop(handle.number, None)
            self._to_flush.discard(handle)
            self._to_watch.discard(handle)
            found = evidence_of(handle.process.exitcode, handle.dump, self._oom_kills, ours=bool(handle.killed))
            losses = handle.losses(found)
            for call, _ in losses:
                self._where.pop(call.id, None)
            early, why = not handle.ready and not self._stopping, handle.killed
            exit_code = handle.process.exitcode
            self._unwatch(handle)
            handle.close()
        if early:
            from parapluie.errors import exit_reason

            ended = f"a worker {exit_reason(exit_code, oom=found.oom)} before it was ready"
            self._host.start_failed(why or (f"{ended}\n{found.dump}" if found.dump else ended))
        for call, loss in losses:
            self._host.lost(call.id, loss)
        if not self._handles:
            self._empty.set()

    def _keep_house(self) -> None:
        """Do what is due: watch new workers, finish writes, end slow starts, look after quiet workers."""
        now = monotonic()
        with self._lock:
            for handle in self._to_watch:
                self._selector.register(handle.wire.fd, selectors.EVENT_READ, (handle, False))
                self._selector.register(handle.sentinel, selectors.EVENT_READ, (handle, True))
            self._to_watch.clear()
            for handle in list(self._to_flush):
                self._flush(handle)
            if self._start_again and self._start_again <= now:
                self._start_again = 0.0
            error, self._start_error = self._start_error, None
            handles = list(self._handles.values())
        if error is not None:
            self._host.start_failed(f"a process could not be started: {type(error).__name__}: {error}", error)
        for handle in handles:
            if not handle.ready:
                if not handle.killed and now >= handle.started + self._host.start_timeout:
                    handle.killed = f"a worker was not ready after start_timeout={self._host.start_timeout:g} seconds"
                    handle.process.kill()
            elif handle.calls and now - handle.heard >= _QUIET_SECONDS:
                self._look_after(handle)
            if handle.wire.torn and not handle.told:
                self._retire_torn(handle)

    def _look_after(self, handle: Handle) -> None:
        """Read a quiet worker's sealed replies; let others have what it has not begun, if they have nothing to do."""
        self._take_page(handle)
        with self._lock:
            idle = any(not other.calls and not other.retiring for other in self._handles.values())
            taken = self._take_back(handle) if len(handle.calls) > 1 and (idle or self._may_start()) else {}
        if taken:
            self._seconds = max(self._seconds, _QUIET_SECONDS)  # a surprise: nobody is given much ahead now
            self._return(taken)

    def _may_start(self) -> bool:
        return sum(handle.active for handle in self._handles.values()) < self._host.max_workers and not self._stopping

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
            ahead = self._ahead()
            handles = self._handles.values()
            room = sum(max(0, ahead - len(handle.calls)) for handle in handles if not handle.retiring)
            room += max(0, self._host.max_workers - sum(handle.active for handle in handles))
        if room and not self._stopping:
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
            wanted = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
            self._to_flush.discard(handle)
            if handle.wire.fd in self._selector.get_map():
                self._selector.modify(handle.wire.fd, wanted, (handle, False))
            elif not done:
                self._to_flush.add(handle)

    def _unwatch(self, handle: Handle) -> None:
        for descriptor in (handle.wire.fd, handle.sentinel):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)

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
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def workers(self) -> tuple[str, ...]:
        return tuple(handle.name for handle in list(self._handles.values()))
