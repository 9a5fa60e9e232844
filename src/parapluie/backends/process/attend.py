"""Collecting in the thread that waits: an answer that comes soon is taken where it is wanted.

    caller ── Future.result ──▶ attend ── look at the worker's pipe ──▶ host.replied_here ──▶ take it out of the pipe
    collector ── now and then ──▶ takes back what a caller has not given back

A round trip then wakes two threads, and not three; and since the caller looks instead of sleeping, for as long as a
short call takes, mostly one. The collector does not watch the pipe meanwhile.

The caller is mostly the main thread, where Ctrl-C raises at any line of this. So nothing is taken out of the pipe
before its future has it, all that happens until then does no harm when it happens again, and what was cut off in the
middle is done by the collector, who reads the same bytes. A caller who does not come back (a signal handler waits for
something else, or a second Ctrl-C came in a `finally`) is relieved by the collector.
"""

from __future__ import annotations

from math import inf

from parapluie.backends.process.wire import READ_SIZE, REPLY, read_reply, split_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from parapluie.backend import Host
    from parapluie.backends.process.handle import Handle

SHORT_SECONDS = 0.0001  # calls of up to this length are attended
_LOOK_SECONDS = 0.25  # between two looks of the collector at who attends


class Attendance:
    """Who attends which worker: one caller at a time. Guarded by the engine's lock.

    Args:
        watch: has the collector watch a worker's pipe or not. answered: is told how long an answered call took.
        wake: wakes the collector.
    """

    def __init__(
        self,
        lock: threading.RLock,
        host: Host,
        *,
        watch: Callable[[Handle], None],
        answered: Callable[[Handle, float], None],
        wake: Callable[[], None],
    ) -> None:
        self._lock, self._host, self._watch, self._answered, self._wake = lock, host, watch, answered, wake
        self._attended: Handle | None = None  # until the collector watches its pipe again
        self._token: object = None  # of who attends it
        self._begun = self._seen = 0  # how often somebody attended, and what that was at the last look
        self._wanted = False  # somebody would attend, if only the collector looked after it
        self.next_look = inf  # of the collector; before it has one nobody attends

    def attend(self, handle: Handle) -> None:
        """Wait a moment for the answer to a worker's only call, and take it if it comes and is a plain one."""
        token = object()
        try:
            if self._begin(handle, token) and handle.wire.end.arrives(SHORT_SECONDS):
                self._take(handle, token)
        finally:
            try:
                self._end(handle, token)
            except BaseException:  # the interrupt came just here
                self._end(handle, token)
                raise

    def _begin(self, handle: Handle, token: object) -> bool:
        with self._lock:
            if self._attended is not None or not handle.attendable:
                return False
            if self.next_look == inf:
                self._wanted = True
                self._wake()
                return False
            self._attended, self._token, handle.attendant = handle, token, token
            self._begun += 1
            self._watch(handle)
        return True

    def _end(self, handle: Handle, token: object) -> None:
        with self._lock:
            if self._token is token:
                self._relieve(handle)

    def _relieve(self, handle: Handle) -> None:
        handle.attendant = None
        self._watch(handle)
        self._attended = self._token = None

    def _take(self, handle: Handle, token: object) -> None:
        data = handle.wire.end.peek(READ_SIZE)
        frames, rest, _ = split_frames(memoryview(data))
        if len(frames) != 1 or rest != len(data) or frames[0][0] != REPLY:
            return
        serial, number, seconds, payload, buffers = read_reply(frames[0][1])
        if buffers or number not in handle.calls or not self._host.replied_here(number, payload):
            return
        with self._lock:
            if handle.attendant is token and handle.serial == serial - 1:
                try:
                    handle.calls.pop(number, None)  # from here on, whoever sees these bytes again passes over them
                    handle.serial = serial
                    self._host.settled(number)
                except BaseException:
                    if number not in handle.calls:
                        self._host.settled(number)
                    raise
                self._answered(handle, seconds)
                handle.wire.end.read(len(data))

    def look(self, now: float) -> None:
        """Take back what a caller has had for too long, and say when to look again. The collector's."""
        with self._lock:
            if self._wanted:
                self._wanted = False
                self.next_look = now + _LOOK_SECONDS
            elif now >= self.next_look:
                handle = self._attended
                if self._begun != self._seen:
                    self.next_look = now + _LOOK_SECONDS
                elif handle is None:
                    self.next_look = inf
                else:  # since the last look
                    self._relieve(handle)
                self._seen = self._begun

    def dead(self, handle: Handle) -> None:
        """Leave a dead worker's pipe to the collector."""
        with self._lock:
            if self._attended is handle:
                self._relieve(handle)
