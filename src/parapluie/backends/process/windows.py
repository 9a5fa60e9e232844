"""Windows: named pipes with overlapped I/O, and the completion port that tells what has come of it. See `ports.py`.

    submitting thread ── WriteFile, begun at once ──▶ pipe ──▶ worker: a descriptor, read and written as elsewhere
    collector ◀── completion port ◀── reads and writes that are done, processes that have ended, `wake`

One port takes all of that, so there is no limit to how many workers are waited for. Whether an operation is done is
known only from its packet in the port, which the collector takes: until then its memory is the kernel's, and is kept.
What is begun on a pipe that belongs to a port goes on when the thread that began it has ended.

`_overlapped` and `_winapi` are private to the standard library; tests/unit/test_ports.py tells when they change.
"""

from __future__ import annotations

import sys

from parapluie.backends.process.poller import READ, WRITE

if sys.platform == "win32":
    import _overlapped  # type: ignore[import-not-found, unused-ignore]
    import _winapi
    import itertools
    import math
    import msvcrt
    import os
    import secrets
    from multiprocessing.context import get_spawning_popen
    from time import monotonic

    TYPE_CHECKING = False
    if TYPE_CHECKING:
        from collections.abc import Callable
        from typing import Any

    _IN_FLIGHT = 1 << 18  # bytes that are on their way to one worker at most, before `write` says that it would block
    _PIPE_SIZE = 1 << 16
    _MOST_PACKETS = 256  # that are taken at a time
    _END_SECONDS = 1.0  # for what was cancelled to say so
    _REJECT_REMOTE_CLIENTS = 8

    _never_ended: list[Any] = []  # operations that do not say that they are done: their memory has to stay

    class Waiter:
        """What the collector waits on, with the methods of a poller (see poller.py).

        `wait` tells of a process, once, that it has ended; of a parent's end that something was read or written.

        Attributes:
            pauses: callers cannot attend; what the collector has begun to read nobody else can look at.
            wake_fd: what `wait` tells of `wake` by; a handle is never 0.
            descriptors: none that a forked worker could hold.

        Thread safety: `wake` from any thread, signal handler or finalizer; all else is the collector's.
        """

        pauses = False
        wake_fd = 0
        descriptors: tuple[int, ...] = ()

        def __init__(self) -> None:
            self._port = _overlapped.CreateIoCompletionPort(_overlapped.INVALID_HANDLE_VALUE, 0, 0, 0)
            self._numbers = itertools.count(1)  # of what packets come from: handles come back, numbers do not
            self._ends: dict[int, ParentEnd] = {}  # by number; until the last packet has come
            self._processes: dict[int, int] = {}  # handles, by number
            self._waits: dict[int, tuple[int, int]] = {}  # of processes, by handle: number, what ends the wait
            self._watched = {self.wake_fd: READ}  # what is to be told, by handle
            self._ready: dict[int, int] = {}  # events that `wait` has not told of, by handle
            self._wake_number = next(self._numbers)
            self._processes[self._wake_number] = self.wake_fd

        def adopt(self, end: ParentEnd) -> int:
            """Have the port tell of what is done on a pipe; return the end's number. Any thread."""
            number = next(self._numbers)
            _overlapped.CreateIoCompletionPort(end.fd, self._port, number, 0)
            self._ends[number] = end
            return number

        # ---- a poller's methods -------------------------------------------------------------------------------

        def watch(self, handle: int, events: int) -> None:
            """Tell of a parent's end, or of the end of a process, from now on."""
            known = handle in self._watched
            self._watched[handle] = events
            if known:
                return
            for end in list(self._ends.values()):
                if end.fd == handle and not end.closed:
                    end.begin_to_read()
                    return
            number = next(self._numbers)
            self._processes[number] = handle
            wait = _overlapped.RegisterWaitWithQueue(handle, self._port, number, _overlapped.INFINITE)
            self._waits[handle] = number, wait

        def forget(self, handle: int) -> None:
            """Tell of it no longer."""
            self._watched.pop(handle, None)
            self._ready.pop(handle, None)
            if handle in self._waits:
                number, wait = self._waits.pop(handle)
                del self._processes[number]
                try:
                    _overlapped.UnregisterWait(wait)
                except OSError as error:
                    if error.winerror != _overlapped.ERROR_IO_PENDING:  # it is just telling, which is no harm
                        raise

        def wait(self, seconds: float | None) -> list[tuple[int, int]]:
            """Wait until something is ready; return handles and what they are ready for."""
            if self._ready:
                seconds = 0
            self.take_packets(_overlapped.INFINITE if seconds is None else max(0, math.ceil(seconds * 1000)))
            ready, self._ready = self._ready, {}
            told = [(handle, events & self._watched.get(handle, 0)) for handle, events in ready.items()]
            return [(handle, events) for handle, events in told if events]

        # ---- packets ------------------------------------------------------------------------------------------

        def take_packets(self, milliseconds: int = 0) -> None:
            """Take what has come from the port, and note what that makes ready. Waits for the first packet only."""
            for _ in range(_MOST_PACKETS):
                packet = _overlapped.GetQueuedCompletionStatus(self._port, milliseconds)
                if packet is None:
                    return
                milliseconds = 0
                _, _, number, address = packet
                if number:
                    self._take_from_end(number, address)
                elif address in self._processes:  # else it is not registered any more
                    self.note(self._processes[address], READ)

        def _take_from_end(self, number: int, address: int) -> None:
            end = self._ends[number]
            events = end.completed(address)
            if not end.closed:
                self.note(end.fd, events)
            elif not end.operations:
                del self._ends[number]

        def note(self, handle: int, events: int) -> None:
            """Have `wait` tell of events, if they are asked for."""
            self._ready[handle] = self._ready.get(handle, 0) | events

        def wake(self) -> None:
            """Have `wait` return."""
            try:
                _overlapped.PostQueuedCompletionStatus(self._port, 0, 0, self._wake_number)
            except OSError:
                return  # closed: there is nobody to wake

        def drain(self) -> None:
            """Take note of having been woken: `wait` has done that."""

        def dismiss(self, number: int) -> None:
            """Let go of an end that is closed; if something was under way on it, when its last packet has come."""
            end = self._ends[number]
            self._ready.pop(end.fd, None)  # the handle may be another one's from now on
            if not end.operations:
                del self._ends[number]

        def close(self) -> None:
            """Close the port, when all that was begun is done or cancelled."""
            deadline = monotonic() + _END_SECONDS
            while self._ends and monotonic() < deadline:
                self.take_packets(10)
            _never_ended.extend(end.operations for end in self._ends.values())
            _winapi.CloseHandle(self._port)

    class ParentEnd:
        """The parent's end of a worker's pipe: what does not block is begun, and goes on by itself.

        Attributes:
            fd: its handle. closed: by `close`.
            operations: what is under way, by address: the operation, and how many bytes it writes.
        """

        def __init__(self, handle: int, waiter: Waiter) -> None:
            self.fd = handle
            self.closed = False
            self.operations: dict[int, tuple[Any, int]] = {}
            self._reading: Any = None  # the read that is under way
            self._arrived: bytes | None = None  # what the last one has read; empty at the end of the stream
            self._begun = 0  # bytes that writes were begun for: who writes counts them,
            self._written = 0  # and the collector those that were written
            self._waiter = waiter
            self._number = waiter.adopt(self)

        def write(self, data: bytes | memoryview) -> int:
            """Begin to write; return how much of data is on its way.

            Raises:
                BlockingIOError: if too much is on its way already.
                OSError: if the other end is closed.
            """
            room = _IN_FLIGHT - self._begun + self._written
            if room <= 0:
                raise BlockingIOError
            piece = memoryview(data)[:room]
            size = len(piece)
            operation = _overlapped.Overlapped(0)
            self._begun += size
            self.operations[operation.address] = operation, size
            try:
                operation.WriteFile(self.fd, piece)
            except OSError:
                del self.operations[operation.address]
                raise
            return size

        def read(self, size: int) -> bytes:
            """Return what has come: less than size if that is all, and more by less than size if it is not.

            Raises:
                BlockingIOError: if nothing has come.
            """
            parts: list[bytes] = []
            length = 0
            while length < size:
                if self._arrived is None:
                    self.begin_to_read()
                    self._waiter.take_packets()
                if not self._arrived:
                    break
                parts.append(self._arrived)
                length += len(self._arrived)
                self._arrived = None
            if parts and self._arrived is not None:
                self._waiter.note(self.fd, READ)  # the end of the stream, which is told next time
            if not parts and self._arrived is None:
                raise BlockingIOError
            return b"".join(parts)

        def begin_to_read(self) -> None:
            """Have the next bytes read when they come."""
            if self._reading is not None or self._arrived is not None:
                return
            self._reading = operation = _overlapped.Overlapped(0)
            self.operations[operation.address] = operation, 0
            try:
                operation.ReadFile(self.fd, _PIPE_SIZE)
            except OSError:  # the other end is closed, and there will be no packet
                del self.operations[operation.address]
                self._reading, self._arrived = None, b""
                self._waiter.note(self.fd, READ)

        def completed(self, address: int) -> int:
            """Take note that an operation is done; return what may go on now."""
            operation, size = self.operations.pop(address)
            if operation is not self._reading:
                self._written += size
                if operation.pending:  # Wine 8, if the thread that began it just ends; to free it would print an error
                    _never_ended.append(operation)
                return WRITE
            self._reading = None
            try:
                self._arrived = operation.getresult()
            except OSError:  # cancelled; or the other end has broken
                self._arrived = b""
            return READ

        def close(self) -> None:
            """Close the handle; what is under way is cancelled, and its memory kept until the port has told."""
            self.closed = True
            for operation, _ in list(self.operations.values()):
                operation.cancel()
            _winapi.CloseHandle(self.fd)
            self._waiter.dismiss(self._number)

    class WorkerEnd:
        """The worker's end. It travels to a process as that is started, and is a descriptor there."""

        def __init__(self, handle: int, descriptor: int = -1) -> None:
            self._handle = handle
            self._descriptor = descriptor

        def __reduce__(self) -> tuple[Any, ...]:
            popen: Any = get_spawning_popen()
            return _arrived, (popen.duplicate_for_child(self._handle),)

        def fileno(self) -> int:
            """Return its descriptor, in the worker."""
            return self._descriptor

        def close(self) -> None:
            """Close the handle, in the parent."""
            _winapi.CloseHandle(self._handle)

    def _arrived(handle: int) -> WorkerEnd:
        return WorkerEnd(handle, msvcrt.open_osfhandle(handle, os.O_RDWR))

    def looker(descriptor: int) -> Callable[[float], bool]:
        """Return a function that says at once that nothing is there: here, to sleep and be woken is all there is."""
        del descriptor
        return lambda _seconds: False

    def pipe(waiter: Waiter) -> tuple[ParentEnd, WorkerEnd]:
        """Make a duplex pipe: of bytes, and not of messages as multiprocessing's; the worker's end blocks."""
        name = rf"\\.\pipe\parapluie-{os.getpid()}-{secrets.token_hex(16)}"
        ours = _winapi.CreateNamedPipe(
            name,
            _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED | _winapi.FILE_FLAG_FIRST_PIPE_INSTANCE,
            _winapi.PIPE_WAIT | _REJECT_REMOTE_CLIENTS,
            1,
            _PIPE_SIZE,
            _PIPE_SIZE,
            _winapi.NMPWAIT_WAIT_FOREVER,
            _winapi.NULL,
        )
        try:
            theirs = _winapi.CreateFile(
                name, _winapi.GENERIC_READ | _winapi.GENERIC_WRITE, 0, 0, _winapi.OPEN_EXISTING, 0, 0
            )
        except BaseException:
            _winapi.CloseHandle(ours)
            raise
        try:
            return ParentEnd(ours, waiter), WorkerEnd(theirs)
        except BaseException:
            _winapi.CloseHandle(ours)
            _winapi.CloseHandle(theirs)
            raise
