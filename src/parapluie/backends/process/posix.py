"""POSIX: a poller with a pipe that wakes it, and pipes that are descriptors. See `ports.py`."""

from __future__ import annotations

import os
import select
import socket
from functools import partial
from time import perf_counter

from parapluie.backends.process.poller import READ, Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WorkerEnd = socket.socket


class Waiter:
    """What the collector waits on: the platform's poller, whose methods are bound here, and a pipe to wake it.

    Attributes:
        pauses, watch, forget, wait: those of the poller.
        wake_fd: what `wait` tells of `wake` by; `drain` says that it was seen.
        descriptors: its own, which a forked worker must not hold.

    Thread safety: `wake` from any thread, signal handler or finalizer; all else is as the engine says.
    """

    def __init__(self) -> None:
        self._poller = poller = Poller()
        self.pauses, self.watch, self.forget, self.wait = poller.pauses, poller.watch, poller.forget, poller.wait
        try:
            self.descriptors = self.wake_fd, self._wake_write = os.pipe()
        except BaseException:
            poller.close()
            raise
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self._wake_write, False)
        self.watch(self.wake_fd, READ)

    def wake(self) -> None:
        """Have `wait` return."""
        try:
            os.write(self._wake_write, b"\0")
        except (BlockingIOError, OSError):
            return  # full: it is awake already; closed: there is nobody to wake

    def drain(self) -> None:
        """Take note of having been woken, before looking what for."""
        try:
            os.read(self.wake_fd, 4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close the poller and the pipe."""
        self._poller.close()
        for descriptor in self.descriptors:
            os.close(descriptor)


class ParentEnd:
    """The parent's end of a worker's pipe.

    Attributes:
        fd: what the waiter knows it by.
        read, write: as `os.read` and `os.write`, with BlockingIOError where they would block; bound here, since each
            message takes one of them.
        arrives: see `looker`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.fd = connection.fileno()
        os.set_blocking(self.fd, False)
        self.read = partial(os.read, self.fd)
        self.write = partial(os.write, self.fd)
        self.close = connection.close
        self._socket = connection
        self.arrives = looker(self.fd)

    def peek(self, size: int) -> bytes:
        """Return what is there to be read, and leave it there."""
        try:
            return self._socket.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return b""


def looker(fd: int) -> Callable[[float], bool]:
    """Return a function that looks at a pipe for so many seconds; False if nothing comes to be read in that time.

    It looks again and again, and offers the processor to others in between: to sleep and be woken takes longer.
    """
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poll = poller.poll

    def arrives(seconds: float) -> bool:
        if poll(0):
            return True
        end = perf_counter() + seconds
        while perf_counter() < end:
            os.sched_yield()
            if poll(0):
                return True
        return False

    return arrives


def pipe(waiter: Waiter) -> tuple[ParentEnd, WorkerEnd]:
    """Make a duplex pipe: what multiprocessing makes too, in a module that imports tempfile (see shared_memory.py)."""
    del waiter  # is told of the parent's end when that is to be watched
    ours, theirs = socket.socketpair()
    return ParentEnd(ours), theirs
