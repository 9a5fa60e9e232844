"""The workers that there are: how they are started, how the collector comes to hear of them, and how they end.

    submitting thread ── start ──▶ handles ◀── _note_memory, of those that are busy ── thread of the memory's watch
    collector ── watch_new ──▶ watched ──▶ poller ──▶ collector: replies, room to flush, deaths ──▶ hang_up, forget
    who stops ── tell_all; end: waits until none is left, terminates, kills

Who starts a worker writes its first calls to it at once. The collector, woken for it, comes to hear of it later, and
then goes on with a write that was cut short.
"""

from __future__ import annotations

import logging
import threading
from math import inf
from time import monotonic

from parapluie.backends.process.handle import Handle
from parapluie.backends.process.ports import READ, WRITE
from parapluie.memory import MemoryWatch
from parapluie.starting import start_lock, threads_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from parapluie.backend import Host, Stop
    from parapluie.backends.process.ports import Waiter
    from parapluie.logs import LogPipe
    from parapluie.shared_memory import SharedFile

_log = logging.getLogger("parapluie")
_START_AGAIN_SECONDS = 0.1


class Workers:
    """The workers of one engine. Guarded by its lock, which who calls holds, but for what is said otherwise.

    Attributes:
        handles: those that live, by number.
        watched: by the descriptors of its wire and of its sentinel, those that the collector hears of; its own.
        to_flush: those whose last write was cut short, and that nobody watches for room to go on.
        none_left: set when no worker is left.
        memory: the watch of how much they use.
        start_again: when to try again after a start failed; inf: none did.
    """

    def __init__(self, lock: threading.RLock, host: Host, poller: Waiter, logs: LogPipe) -> None:
        self._lock, self._host, self._poller, self._wake, self._logs = lock, host, poller, poller.wake, logs
        self.handles: dict[int, Handle] = {}
        self.watched: dict[int, Handle] = {}
        self.to_flush: set[Handle] = set()
        self._to_watch: set[Handle] = set()
        self.none_left = threading.Event()
        self.none_left.set()
        self.memory = MemoryWatch(self._note_memory)
        self._numbers = 0
        self._method = host.context.get_start_method()
        self.start_again = inf
        self._start_error: Exception | None = None

    def holder(self, call_id: int) -> Handle | None:
        """Return the worker that was given a call. Any thread, no lock."""
        for handle in list(self.handles.values()):
            if call_id in handle.calls:
                return handle
        return None

    # ---- the start --------------------------------------------------------------------------------------------

    def start(self, calls: SharedFile | None) -> Handle | None:
        """Start a worker that is given a file of calls' large buffers; None if a start failed a moment ago, or now."""
        if self.start_again != inf:
            return None
        if threads := threads_beside(self._method):
            from parapluie.fork_threads import warn_of_threads

            warn_of_threads(threads, self._host)  # raises, where warnings are errors: then nothing is to start
        self._numbers += 1
        others = list(self.handles.values())
        try:
            with start_lock():
                handle = Handle(self._numbers, self._host, self._poller, calls, others, self._logs)
        except Exception as error:  # noqa: BLE001 - no memory, no descriptors, no main guard: the host decides
            self.start_again = monotonic() + _START_AGAIN_SECONDS
            # The collector tells: it holds no lock when it does. The traceback would keep the page and its semaphore.
            self._start_error = error.with_traceback(None)
            self._wake()
            return None
        self.handles[handle.number] = handle
        self.none_left.clear()
        self._to_watch.add(handle)
        self._wake()
        return handle

    def try_again(self, now: float) -> bool:
        """Allow another start, if one failed and it is time; True if so."""
        if self.start_again > now:
            return False
        self.start_again = inf
        return True

    def take_start_error(self) -> Exception | None:
        """Return what the last start failed with, if the host has not been told."""
        error, self._start_error = self._start_error, None
        return error

    def tell_start_error(self, error: Exception) -> None:
        """Tell the host that a start failed, unless others are ready. The collector's, without the lock."""
        if not any(handle.ready for handle in list(self.handles.values())):  # else they go on, and it passes
            self._host.start_failed(f"a process could not be started: {type(error).__name__}: {error}", error)

    def end_slow_start(self, handle: Handle, now: float) -> None:
        """Kill a worker that is not ready in time. The collector's, without the lock."""
        if now >= handle.started + self._host.start_timeout:
            handle.killed = f"a worker was not ready after start_timeout={self._host.start_timeout:g} seconds"
            handle.process.kill()

    # ---- what the collector hears of --------------------------------------------------------------------------

    def watch_new(self) -> None:
        """Watch the workers that were started since."""
        for handle in self._to_watch:
            handle.watched = True
            for fd in (handle.wire.fd, handle.sentinel):
                self.watched[fd] = handle
                self._poller.watch(fd, READ)
        self._to_watch.clear()

    def watch(self, handle: Handle) -> None:
        """Watch a worker's pipe for what there is to do; but for its end, nothing where a caller attends."""
        if handle.watched:
            reads = READ if handle.attendant is None else 0
            self._poller.watch(handle.wire.fd, reads | WRITE if handle.wire.unsent else reads)

    def flush(self, handle: Handle) -> None:
        """Go on with a write that was cut short, now and whenever the pipe takes more. Takes the lock."""
        with self._lock:
            done = handle.wire.flush()
            self.to_flush.discard(handle)
            if handle.watched:
                self.watch(handle)
            elif not done:
                self.to_flush.add(handle)

    def flush_all(self) -> None:
        """Go on with all writes that were cut short."""
        for handle in list(self.to_flush):
            self.flush(handle)

    def hang_up(self, handle: Handle) -> None:
        """Read no more from a worker that has closed its end; its sentinel says the rest. Takes the lock."""
        with self._lock:
            handle.retiring = True
            handle.watched = False
            self._poller.forget(handle.wire.fd)

    def forget(self, handle: Handle) -> None:
        """Forget a dead worker."""
        self.handles.pop(handle.number, None)
        self.to_flush.discard(handle)
        self._to_watch.discard(handle)
        handle.watched = False
        for fd in (handle.wire.fd, handle.sentinel):
            if self.watched.pop(fd, None) is not None:
                self._poller.forget(fd)

    def _note_memory(self) -> bool:
        """Look at the memory of workers that run something; False if none does. Runs in the watch's thread."""
        with self._lock:
            busy = [handle for handle in self.handles.values() if handle.calls]
            self.memory.dozing = not busy
        for handle in busy:
            handle.note_memory()
        return bool(busy)

    # ---- the end ----------------------------------------------------------------------------------------------

    def tell(self, handle: Handle) -> None:
        """Tell a worker to end behind what it was given."""
        if not handle.send_sentinel():
            self.to_flush.add(handle)
            self._wake()

    def tell_all(self) -> None:
        """Tell all that have not been told."""
        for handle in self.handles.values():
            if not handle.told:
                self.tell(handle)

    def end(self, stop: Stop, collector: threading.Thread, bury: Callable[[Handle], None]) -> None:
        """Wait until the workers, which were told to end, are gone; end those that are not in time. Takes the lock."""
        if not stop.kill and not self.none_left.wait(stop.grace):
            self._force("terminate", "terminated", stop.grace)
            self.none_left.wait(stop.grace)
        while not self.none_left.is_set():
            self._force("kill", "killed", 0.0 if stop.kill else stop.grace)
            if not collector.is_alive():  # it failed, and the executor is broken: nobody else would
                for handle in list(self.handles.values()):
                    bury(handle)
            self.none_left.wait(1.0)

    def _force(self, method: str, done: str, grace: float) -> None:
        with self._lock:
            handles = list(self.handles.values())
            for handle in handles:
                handle.killed = handle.killed or f"{done} at shutdown"
                getattr(handle.process, method)()
        if handles:
            pids = ", ".join(str(handle.pid) for handle in handles)
            when = f"did not stop within {grace:g} seconds" if grace else "was told not to wait"
            _log.warning(
                "parapluie: backend %r %s: workers still running (pids %s); %s", self._host.backend, when, pids, done
            )
