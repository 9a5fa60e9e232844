"""The two ends of a session's pipe, as the platform has them: the one place of sessions where platforms differ.

    pipe()               makes a duplex pipe: two ends; one of them travels to the worker as that is started
    Port(end, process)   what each side makes of its end: `read` and `write`, which never block; `wait`; `finish`;
                         `close`; and on the program's side `sentinel`, by which `wait` tells of the process's death

What the process has forked may keep the pipe open, so that its end is no sure sign of a death.
"""

from __future__ import annotations

import sys
from math import ceil

from parapluie.condition import LOOK_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

READ, WRITE, DEAD = 1, 2, 4  # what `wait` waits for, or tells

if sys.platform == "win32":
    import threading
    from multiprocessing import Pipe
    from multiprocessing.connection import PipeConnection, wait
    from queue import SimpleQueue
    from time import sleep

    End = PipeConnection

    _IN_FLIGHT = 1 << 18  # bytes that are on their way at most, before `write` says that it would block
    _END_SECONDS = 1.0  # that the thread has to end, when its pipe has broken
    _ROOM_SECONDS = 0.005  # between looks for room

    def pipe() -> tuple[End, End]:
        """Make a duplex pipe."""
        return Pipe()

    class Port:
        """An end of a named pipe of messages. Who reads does so in its own thread; what is written, a thread writes.

        A write there blocks until the other side reads; and one that is begun by a thread ends with that thread.
        """

        def __init__(self, end: End, process: BaseProcess | None = None) -> None:
            self._end = end
            self.sentinel = None if process is None else process.sentinel
            self._pieces: SimpleQueue[bytes | None] = SimpleQueue()
            self._begun = self._written = 0  # bytes: who writes counts the first, the thread the other one
            self._broken = False
            self._thread = threading.Thread(target=self._run, name="parapluie-session-writer", daemon=True)
            self._thread.start()

        def _run(self) -> None:
            while (piece := self._pieces.get()) is not None:
                try:
                    self._end.send_bytes(piece)
                except (OSError, ValueError):  # the other side is gone, or this one has closed
                    self._broken = True
                self._written += len(piece)

        def write(self, data: bytes | memoryview) -> int:
            if self._broken:
                raise BrokenPipeError
            room = _IN_FLIGHT - self._begun + self._written
            if room <= 0:
                raise BlockingIOError
            piece = bytes(data[:room])
            self._begun += len(piece)
            self._pieces.put(piece)
            return len(piece)

        def read(self, _size: int) -> bytes:
            try:
                if not self._end.poll():
                    raise BlockingIOError
                return self._end.recv_bytes()
            except EOFError:
                return b""

        def wait(self, events: int, seconds: float | None) -> int:
            seconds = LOOK_SECONDS if seconds is None else min(seconds, LOOK_SECONDS)
            if events & WRITE:
                if self._broken or self._begun - self._written < _IN_FLIGHT:
                    return WRITE
                seconds = min(seconds, _ROOM_SECONDS)
            things: list[object] = [] if self.sentinel is None else [self.sentinel]
            if events & READ:
                things.append(self._end)
            if not things:
                sleep(seconds)
                return 0
            ready = wait(things, seconds)
            return (READ if self._end in ready else 0) | (DEAD if self.sentinel in ready else 0)

        def finish(self) -> None:
            """Wait until all that was written is on the other side, or that is gone."""
            self._pieces.put(None)
            self._thread.join()

        def close(self) -> None:
            self._pieces.put(None)
            self._thread.join(_END_SECONDS)
            self._end.close()

else:
    import os
    import select
    import socket
    from functools import partial

    End = socket.socket

    def pipe() -> tuple[End, End]:
        """Make a duplex pipe."""
        return socket.socketpair()

    class Port:
        """An end of a socket pair.

        Attributes:
            sentinel: what is ready when the process is dead; closed with the port.
            read, write: as `os.read` and `os.write`, with BlockingIOError where they would block; bound here, since
                each message takes one of them.
        """

        def __init__(self, end: End, process: BaseProcess | None = None) -> None:
            self._end = end  # kept open
            self._pidfd = None if process is None else _pidfd_of(process)
            self.sentinel = process.sentinel if process is not None and self._pidfd is None else self._pidfd
            fd = end.fileno()
            os.set_blocking(fd, False)
            self.read = partial(os.read, fd)
            self.write = partial(os.write, fd)
            self._polls = {}
            for events in (READ, WRITE, READ | WRITE):
                poller = select.poll()
                poller.register(fd, (select.POLLIN if events & READ else 0) | (select.POLLOUT if events & WRITE else 0))
                if self.sentinel is not None:
                    poller.register(self.sentinel, select.POLLIN)
                self._polls[events] = poller.poll
            self._data_came = [(fd, select.POLLIN)]

        def wait(self, events: int, seconds: float | None) -> int:
            """Wait for events, a second at most; return those that came, and DEAD. One thread for each kind of wait."""
            limit = LOOK_SECONDS if seconds is None or seconds > LOOK_SECONDS else seconds
            found = self._polls[events](ceil(1000 * limit))
            if found == self._data_came:
                return READ
            ready = 0
            for fd, came in found:
                if fd == self.sentinel:
                    ready |= DEAD
                else:  # what a hang-up or a reset means, the read or the write tells
                    ready |= READ if events & READ and came & ~select.POLLOUT else 0
                    ready |= WRITE if events & WRITE and came & ~select.POLLIN else 0
            return ready

        def finish(self) -> None:
            """Do nothing: what was written is in the pipe."""

        def close(self) -> None:
            self._end.close()
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None

    def _pidfd_of(process: BaseProcess) -> int | None:
        """Return what tells of the death of a child. multiprocessing's own sentinel may be held by what that forks."""
        if not hasattr(os, "pidfd_open") or process.pid is None:
            return None
        try:
            return os.pidfd_open(process.pid)
        except OSError:  # a sandbox; no descriptors; or it has ended, and somebody else has taken its exit code
            return None
